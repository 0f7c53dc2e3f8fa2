"""Workers: processes that run foreign code, and the protocol with them."""
