"""The key that logs in to the machines of one stack, and to nothing else."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloudburst.errors import ConfigError
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.paths import read_text, write_private


def ensure(paths: CloudPaths) -> str:
    """The public key, in one line; the private one is made if there is none. Raises ConfigError, OSError."""
    text = read_text(paths.key)
    if not text:
        made = Ed25519PrivateKey.generate()
        text = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ).decode("ascii")
        write_private(paths.key, text)  # in one step: a kill leaves no half of a key
    try:
        private = serialization.load_ssh_private_key(text.encode(), password=None)
    except ValueError as error:
        raise ConfigError(
            f"{paths.key}: not the key of a stack ({error}); without it there is no way into its machines"
        ) from error
    public = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return f"{public.decode('ascii')} cloudburst-{paths.root.name}"
