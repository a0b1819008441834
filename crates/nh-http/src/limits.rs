/// What one exchange may take, redirects included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From asking for a connection to having one (name look-up, TCP, TLS).
    pub connect_ms: u64,
    /// From having a connection to the answer's head.
    pub first_byte_ms: u64,
    /// Between two pieces of the answer's body.
    pub between_bytes_ms: u64,
    /// From the call of `send` to the end of the answer's body.
    pub total_ms: u64,
    /// Of the answer's body. More is an error, not a cut.
    pub max_body_bytes: u64,
    /// 0 hands a redirect back as it came.
    pub max_redirects: u32,
}

impl Default for Limits {
    /// Sane for a small JSON call; no redirects.
    fn default() -> Self {
        Self {
            connect_ms: 10_000,
            first_byte_ms: 30_000,
            between_bytes_ms: 30_000,
            total_ms: 60_000,
            max_body_bytes: 10_000_000,
            max_redirects: 0,
        }
    }
}
