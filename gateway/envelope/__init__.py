"""Sans-IO: CBOR, COSE, HPKE keying and ratchet, the hash chain, receipts."""
