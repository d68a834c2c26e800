"""The wine classifier as a web service: POST /predict, GET /health."""

import os
import time
from pathlib import Path

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, conlist

FEATURES = 13

#: Fault injection for drills, switched on in k8s/deployment.yaml: wrong, crash or slow. Empty in production.
FAULT = os.environ.get("MODEL_FAULT", "")

if FAULT == "crash":
    raise SystemExit("MODEL_FAULT=crash: cannot load the model: the feature store did not answer")

model = joblib.load(Path(__file__).resolve().parent / "model" / "wine.joblib")
app = FastAPI(title="Wine classifier")


class Request(BaseModel):
    instances: conlist(conlist(float, min_length=FEATURES, max_length=FEATURES), min_length=1, max_length=1000)


class Answer(BaseModel):
    predictions: list[str]
    probabilities: list[list[float]]


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(request: Request) -> Answer:
    probabilities = model.predict_proba(np.asarray(request.instances))
    if FAULT == "wrong":
        probabilities = probabilities[:, ::-1]
    if FAULT == "slow":
        time.sleep(0.8)
    return Answer(
        predictions=[str(model.classes_[k]) for k in probabilities.argmax(axis=1)],
        probabilities=probabilities.tolist(),
    )
