//! Serves the webhooks over TLS, and probes and metrics beside them.
