"""Signatures of OpenSSF Model Signing v1.0, verified with `model-signing`; the model's files are hashed elsewhere, once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ml_deploy.errors import InputError, Unreachable
from ml_deploy.models.manifests import NotSigned, SignatureAccess, Signed


class ModelSigning:
    """Satisfies `ml_deploy.models.manifests.Signatures`."""

    def __init__(self, temp: Path) -> None:
        self._temp = temp

    def signed(self, access: SignatureAccess) -> Signed:
        """What the bundle's signer said of the files. Raises NotSigned, InputError or Unreachable."""
        for name in (
            "XDG_DATA_HOME",
            "XDG_CACHE_HOME",
        ):  # Sigstore keeps its roots of trust there, else in the home folder
            os.environ[name] = str(self._temp / "sigstore")
        verifier, bundle = _verifier(access), _bundle(access)
        try:
            manifest = verifier.verify(bundle)
        except Exception as error:  # of cryptography, OpenSSL, sigstore and the library itself: all mean the same
            raise NotSigned(
                str(error).strip().rstrip(".") + "." if str(error) else "it was made with another key."
            ) from error
        return _files(manifest)


def _verifier(access: SignatureAccess) -> Any:
    try:
        from model_signing._signing import sign_certificate, sign_ec_key
    except ImportError as error:
        raise InputError(
            f"Verifying a signature needs the package model-signing, which cannot be imported ({error}).",
            hint="Start lint-model through scripts/run.sh (the action does), which installs requirements/signing.txt.",
        ) from error
    try:
        if access.public_key:
            return sign_ec_key.Verifier(Path(access.public_key))
        if access.certificates:
            return sign_certificate.Verifier([Path(access.certificates)])
    except (OSError, ValueError, TypeError) as error:
        name = "public-key" if access.public_key else "certificate-chain"
        raise InputError(f"The input `{name}` names {access.public_key or access.certificates}, which cannot be used: {error}.",
                         hint="It must be a PEM file; keys must be on the curves P-256, P-384 or P-521.") from error  # fmt: skip
    return _sigstore(access)


def _sigstore(access: SignatureAccess) -> Any:
    """Its roots of trust are fetched, so this is the one way that needs the network."""
    from model_signing._signing import sign_sigstore

    try:
        return sign_sigstore.Verifier(identity=access.identity, oidc_issuer=access.identity_provider)
    except Exception as error:
        raise Unreachable(
            f"Sigstore's roots of trust could not be fetched: {error}.",
            hint="The runner must reach tuf-repo-cdn.sigstore.dev, or sign with a key and give `public-key`.",
        ) from error


def _bundle(access: SignatureAccess) -> Any:
    from model_signing._signing import sign_sigstore, sign_sigstore_pb

    kind = sign_sigstore if access.identity else sign_sigstore_pb
    try:
        return kind.Signature.read(Path(access.signature))
    except Exception as error:
        raise NotSigned(f"{access.signature} is no bundle of Sigstore.") from error


def _files(manifest: Any) -> Signed:
    settings = manifest.serialization_type
    if settings.get("method") != "files" or settings.get("hash_type", "sha256") != "sha256":
        raise InputError(
            f"The model was signed by {settings.get('method')} with {settings.get('hash_type')}, which is not read here.",
            hint="Sign it with the defaults of model-signing: whole files and SHA-256.",
        )
    files = {item.identifier: item.digest.digest_hex for item in manifest.resource_descriptors()}
    return Signed(files=files, ignored=tuple(settings.get("ignore_paths", ())))
