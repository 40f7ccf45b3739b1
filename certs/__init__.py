"""Certificate profiles as data: what each certificate may be used for, for how long, and with which key."""
