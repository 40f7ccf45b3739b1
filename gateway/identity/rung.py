"""Where a gateway's private keys live: in files, encrypted on the disk and handed over by systemd, or in a TPM 2.0.

`systemd-creds` encrypts with a key of the machine, in a file of root (`host`), in its TPM 2.0 (`tpm2`), or with both;
systemd decrypts into memory that only the service can read (systemd.exec(5), LoadCredentialEncrypted).
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config import CREDENTIALS, GatewayConfig, IdentitySection
from gateway.durable import give_to_owner, shred, write_durably
from gateway.errors import IdentityError
from gateway.identity import tpm
from gateway.identity.files import PrivateKey, load_private_key, private_pem, read_private

CREDSTORE = Path("/etc/credstore.encrypted")

PROTECTS = {
    "file": (
        "Keys lie in files that only this service may read (0600). That stops other users and services of this box.",
        "It does not stop root or a thief of the disk, who can speak as this gateway until it is revoked.",
    ),
    "credential": (
        "Keys lie encrypted on the disk; systemd hands them to this service alone, in memory.",
        "Encrypted with `host`, whoever has the whole disk can decrypt them; with `tpm2`, only on this box.",
        "It does not stop root on this box while it runs.",
    ),
    "tpm": (
        "Keys were made in this box's TPM and work only there; files on the disk let this one TPM load them.",
        "Nobody can copy them: a disk without its box speaks for nobody, and `wipe` ends them for certain.",
        "Root on the running box, or a thief of the whole box, can use them as long as he has it.",
    ),
}
ALWAYS = "No reading that was sealed before opens with them: the box holds no key that opens what it has sealed."


def open_key(identity: IdentitySection, path: Path) -> PrivateKey:
    """A key of this gateway, wherever it lives. Raises `IdentityError`."""
    if identity.keys == "tpm":
        return tpm.TpmKey(read_private(path), identity.tpm, path)
    return load_private_key(path)


def make_tls_key(identity: IdentitySection) -> bool:
    """Make the key for TLS, which is P-256 everywhere, if there is none. Raises `IdentityError`, `OSError`."""
    return _make(identity, identity.tls_key, lambda: generate_private_key(SECP256R1()))


def make_signing_key(identity: IdentitySection, path: Path) -> bool:
    """Make a signing key at `path`, if there is none: Ed25519 where that is possible. Raises as above."""
    return _make(identity, path, Ed25519PrivateKey.generate)


def _make(identity: IdentitySection, path: Path, generate: Callable[[], PrivateKey]) -> bool:
    if path.exists():
        return False
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
        give_to_owner(path.parent)
    if identity.keys == "tpm":
        tpm.make(path, identity.tpm)
    else:
        write_durably(path, private_pem(generate()))
    give_to_owner(path)
    return True


def end_keys(identity: IdentitySection) -> None:
    """Let a TPM forget what only it knows of both keys; keys elsewhere are files. Raises `IdentityError`."""
    if identity.keys == "tpm":
        tpm.destroy(read_private(identity.signing_key), identity.tpm, identity.signing_key)


def refuse_leftovers(config: GatewayConfig) -> None:
    """Raise `IdentityError`, with the command that mends it, for a key in plain text that should not be there."""
    if config.identity.keys == "file":
        return
    for name in CREDENTIALS.values():
        path = plain_path(config, name)
        if path.exists():
            raise IdentityError(
                f"{path}: a key in plain text is left, which nothing uses; mend it with: shred -u {path}"
            )


def plain_path(config: GatewayConfig, name: str) -> Path:
    """Where a key lies before it becomes a credential."""
    return config.gateway.state_dir / "identity" / name.removeprefix("iomt-gateway.")


def seal(config: GatewayConfig, *, with_key: str, credstore: Path) -> list[Path]:
    """Encrypt both keys into `credstore`, and erase the plain text once each is found to open again.

    Raises `IdentityError`; then the plain text is still there.
    """
    made = []
    for name in CREDENTIALS.values():
        plain, sealed = plain_path(config, name), credstore / name
        load_private_key(plain)
        _systemd_creds("encrypt", f"--with-key={with_key}", f"--name={name}", str(plain), str(sealed))
        if _systemd_creds("decrypt", f"--name={name}", str(sealed), "-") != read_private(plain):
            raise IdentityError(f"{sealed}: does not open to the key that was encrypted; {plain} is kept")
        made.append(sealed)
    for name in CREDENTIALS.values():
        shred(plain_path(config, name))
    return made


def _systemd_creds(*arguments: str) -> bytes:
    try:
        done = subprocess.run(("systemd-creds", *arguments), capture_output=True, check=False)
    except OSError as error:
        raise IdentityError(f"systemd-creds: cannot be run: {error.strerror}; it comes with systemd 250") from error
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise IdentityError(f"systemd-creds {arguments[0]}: {reason[-1] if reason else 'failed'}")
    return done.stdout
