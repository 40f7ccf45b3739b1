"""TLS with a key in a TPM: tpm2-openssl in the OpenSSL that Python's `ssl` uses.

The provider must come before OpenSSL's own, or that one takes the key and finds no private part; but then it takes the
keys in files of everybody else too. So both live in a library context of their own (OSSL_LIB_CTX(3)), which a thread
enters to load the key and to shake hands, and leaves again.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from gateway.errors import IdentityError

_PREFER = b"?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes"


class Provider:
    """The library context of one TPM. Raises `IdentityError` if it cannot be had."""

    def __init__(self, tcti: str) -> None:
        try:
            import _ssl

            self._library = ctypes.CDLL(_ssl.__file__)  # its symbols, and those of the libcrypto that it is linked to
            self._enter = self._function("OSSL_LIB_CTX_set0_default", ctypes.c_void_p)
            context = self._function("OSSL_LIB_CTX_new")()
            load = self._function("OSSL_PROVIDER_load", ctypes.c_void_p, ctypes.c_char_p)
            prefer = self._function("EVP_set_default_properties", ctypes.c_void_p, ctypes.c_char_p)
        except (ImportError, AttributeError, OSError) as error:
            raise IdentityError(f"identity.keys: this Python's OpenSSL cannot use a TPM: {error}") from error
        os.environ["TPM2OPENSSL_TCTI"] = tcti
        if not (load(context, b"default") and load(context, b"tpm2") and prefer(context, _PREFER)):
            raise IdentityError(
                f"identity.keys: OpenSSL cannot use the TPM {tcti}: is it there, may this user use it, and is"
                " tpm2-openssl installed?"
            )
        self._context = context
        self._one = threading.Lock()  # tpm2-openssl has one conversation with the TPM

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What this thread does with OpenSSL meanwhile goes through the TPM's provider; other threads wait."""
        with self._one:
            before = self._enter(self._context)
            try:
                yield
            finally:
                self._enter(before)

    def _function(self, name: str, *arguments: type) -> "ctypes._NamedFuncPointer":
        function = self._library[name]
        function.restype, function.argtypes = ctypes.c_void_p, arguments
        return function


provider = cache(Provider)
