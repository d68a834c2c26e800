"""Trains the wine classifier and writes everything that belongs to it. The same run gives the same model.

    pip install -r requirements-train.txt
    python train.py

writes  model/wine.joblib    what the service loads
        model/wine.onnx      the same model for ONNX runtimes (skipped where skl2onnx is not installed)
        model/metrics.json   its figures on the held-out quarter of the data
        tests/cases.jsonl    golden predictions: what this model answers; whoever serves it must answer the same
"""

import argparse
import json
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
SEED = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE, help="where model/ and tests/ are written")
    parser.add_argument("--shuffle-labels", action="store_true",
                        help="train on labels in random order: a bad model for drills (only wine.joblib is written)")
    args = parser.parse_args()
    wine = load_wine()
    cultivars = wine.target_names[wine.target]  # the model's answers are names: class_0, class_1, class_2
    x_train, x_test, y_train, y_test = train_test_split(
        wine.data, cultivars, test_size=0.25, random_state=SEED, stratify=cultivars)
    if args.shuffle_labels:
        y_train = np.random.default_rng(SEED).permutation(y_train)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=500))
    model.fit(x_train, y_train)
    (args.out / "model").mkdir(parents=True, exist_ok=True)
    joblib.dump(model, args.out / "model" / "wine.joblib")
    if not args.shuffle_labels:
        write_metrics(model, x_test, y_test, args.out / "model" / "metrics.json")
        write_onnx(model, x_train, args.out / "model" / "wine.onnx")
        write_cases(model, x_test, y_test, args.out / "tests" / "cases.jsonl")


def write_metrics(model, x, y, path: Path) -> None:
    metrics = {
        "accuracy": round(float(accuracy_score(y, model.predict(x))), 4),
        "f1": round(float(f1_score(y, model.predict(x), average="macro")), 4),
        "log_loss": round(float(log_loss(y, model.predict_proba(x))), 4),
    }
    path.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"{path.name}: {metrics}")


def write_onnx(model, x, path: Path) -> None:
    try:
        from skl2onnx import to_onnx
    except ImportError:
        print("wine.onnx: left as it is (skl2onnx is not installed)")
        return
    onnx = to_onnx(model, x[:1].astype(np.float32), options={"zipmap": False}, target_opset=17)
    path.write_bytes(onnx.SerializeToString())


def write_cases(model, x, y, path: Path) -> None:
    """Three wines of each kind, and one request with four wines at once."""
    rows = [i for cultivar in model.classes_ for i in np.flatnonzero(y == cultivar)[:3]]
    cases = [case(model, f"{y[i]}, wine {i}", x[[i]]) for i in rows]
    cases.append(case(model, "four wines at once", x[:4]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in cases))
    print(f"{path.name}: {len(cases)} golden predictions")


def case(model, name: str, x) -> dict:
    """The tolerance leaves room for float32 (ONNX) and for another processor's arithmetic."""
    return {
        "name": name,
        "request": {"instances": x.tolist()},
        "expect": {
            "predictions": [str(label) for label in model.predict(x)],
            "probabilities": [[round(float(p), 6) for p in row] for row in model.predict_proba(x)],
        },
        "rtol": 1e-4,
        "atol": 1e-5,
    }


if __name__ == "__main__":
    main()
