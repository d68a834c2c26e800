"""Models that are really signed, with a key and with a certificate; keyless signing needs Sigstore's services."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.integration.models.test_lint import Step

_SIGN = """
import sys
from pathlib import Path
from model_signing import signing
way, model, signature, key, *certificates = sys.argv[1:]
config = signing.Config()
if way == "key":
    config = config.use_elliptic_key_signer(private_key=Path(key))
else:
    config = config.use_certificate_signer(
        private_key=Path(key), signing_certificate=Path(certificates[0]), certificate_chain=[Path(certificates[1])])
config.sign(Path(model), Path(signature))
"""


def _sign(folder: Path, *how: str) -> None:
    """In a process of its own, as another job would."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", _SIGN, *how], cwd=folder, check=True, timeout=60)


def _key(folder: Path, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / f"{name}.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))  # fmt: skip
    (folder / f"{name}.pub").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


@pytest.fixture
def step(tmp_path: Path) -> Step:
    made = Step(tmp_path)
    for name in ("a.pkl", "sub/b.pkl"):
        file = made.workspace / "model" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(pickle.dumps({name: 1}))
    _key(made.workspace, "ours")
    return made


def _signed(step: Step) -> dict[str, str]:
    _sign(step.workspace, "key", "model", "model/model.sig", "ours.pem")
    return {"model": "model", "signature": "model/model.sig", "public_key": "ours.pub"}


def test_a_signed_model_passes(step: Step) -> None:
    done = step.run(**_signed(step))
    assert (done.code, done.outputs["verdict"]) == (0, "allow"), done.log


def _tamper(model: Path) -> None:
    (model / "sub" / "b.pkl").write_bytes(pickle.dumps({"sub/b.pkl": 2}))


def _remove(model: Path) -> None:
    (model / "a.pkl").unlink()


def _add(model: Path) -> None:
    (model / "c.pkl").write_bytes(pickle.dumps(3))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_tamper, "model/sub/b.pkl is not as it was signed in model/model.sig: it has SHA-256"),
        (_remove, "model/a.pkl is signed in model/model.sig, and is not among the model's files."),
        (_add, "model/c.pkl is not signed in model/model.sig."),
    ],
)
def test_a_file_that_is_not_as_it_was_signed_is_named(step: Step, change: Callable[[Path], None], says: str) -> None:
    inputs = _signed(step)
    change(step.workspace / "model")
    done = step.run(**inputs)
    assert (done.code, done.outputs["verdict"]) == (3, "deny")
    assert says in done.log
    assert done.outputs["findings"] == "1"


def test_a_part_of_what_was_signed_is_not_the_model(step: Step) -> None:
    inputs = {**_signed(step), "model": "model/a.pkl"}
    assert "model/sub/b.pkl is signed in model/model.sig, and is not among the model's files." in step.run(**inputs).log


def test_another_key_is_not_accepted(step: Step) -> None:
    inputs = _signed(step)
    _key(step.workspace, "theirs")
    done = step.run(**{**inputs, "public_key": "theirs.pub"})
    assert (done.code, "The signature is not valid: Key mismatch" in done.log) == (3, True), done.log


def test_a_changed_statement_is_not_accepted(step: Step) -> None:
    inputs = _signed(step)
    file = step.workspace / "model" / "model.sig"
    text = file.read_text()
    at = text.index('"payload"') + 40
    file.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    done = step.run(**inputs)
    assert (done.code, "The signature is not valid" in done.log) == (3, True), done.log


def test_certificates(step: Step) -> None:
    authority, other = trustme.CA(key_type=trustme.KeyType.ECDSA), trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("models@example.com", key_type=trustme.KeyType.ECDSA)
    for name, pem in (("key.pem", issued.private_key_pem), ("cert.pem", issued.cert_chain_pems[0]),
                      ("ca.pem", authority.cert_pem), ("other.pem", other.cert_pem)):  # fmt: skip
        pem.write_to_path(str(step.workspace / name))
    _sign(step.workspace, "certificate", "model", "model.sig", "key.pem", "cert.pem", "ca.pem")
    inputs = {"model": "model", "signature": "model.sig"}
    done = step.run(**inputs, certificate_chain="ca.pem")
    assert (done.code, done.outputs["verdict"]) == (0, "allow"), done.log
    refused = step.run(**inputs, certificate_chain="other.pem")
    assert (refused.code, "The signature is not valid" in refused.log) == (3, True), refused.log


def test_what_was_asked_for_and_is_not_there(step: Step) -> None:
    inputs = {"model": "model", "signature": "model.sig", "public_key": "ours.pub"}
    done = step.run(**inputs)
    assert done.code == 2
    assert "there is no such file: the model is not signed" in done.log
    (step.workspace / "model.sig").write_text("{}")
    assert "The signature is not valid: model.sig is no bundle of Sigstore." in step.run(**inputs).log
    _sign(step.workspace, "key", "model", "model.sig", "ours.pem")
    assert "`public-key` names none.pub" in step.run(**{**inputs, "public_key": "none.pub"}).log
    (step.workspace / "bad.pub").write_text("no key")
    assert "`public-key` names bad.pub, which cannot be used" in step.run(**{**inputs, "public_key": "bad.pub"}).log


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"signature": "s"}, "whose signature it must be"),
        ({"signature": "s", "public_key": "k", "certificate_chain": "c"}, "whose signature it must be"),
        ({"public_key": "k"}, "`signature` is missing"),
        ({"signature": "s", "identity": "me@example.com"}, "`identity` and `identity-provider` need each other"),
    ],
)
def test_inputs_that_need_each_other(step: Step, inputs: dict[str, str], says: str) -> None:
    done = step.run(model="model", **inputs)
    assert (done.code, says in done.log) == (2, True), done.log


def test_checksums(step: Step) -> None:
    listing = subprocess.run(
        ["sha256sum", "a.pkl", "sub/b.pkl"], cwd=step.workspace / "model", capture_output=True, check=True
    ).stdout
    (step.workspace / "model" / "SHA256SUMS").write_bytes(listing)
    inputs = {"model": "model", "checksums": "model/SHA256SUMS"}
    assert step.run(**inputs).code == 0
    for change in (_tamper, _add, _remove):
        change(step.workspace / "model")
    done = step.run(**inputs)
    assert (done.code, done.outputs["findings"]) == (3, "3")
    for says in (
        "b.pkl is not as it was listed",
        "c.pkl is not listed in",
        "a.pkl is listed in model/SHA256SUMS, and is not among",
    ):
        assert says in done.log
