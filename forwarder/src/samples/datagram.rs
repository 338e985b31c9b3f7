//! What an encoder makes.

/// A datagram for collectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its payload.
    pub octets: Vec<u8>,
    /// Samples in it.
    pub samples: u32,
}
