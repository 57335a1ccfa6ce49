//! Bounded fetching: size, time, redirects, addresses, the scope of credentials.
