//! An answer that is made while it is sent.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc;

/// Pieces from a thread that waits while nobody takes them.
pub struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

/// Pieces on the way at a time.
const ON_THE_WAY: usize = 4;

impl Pieces {
    /// The two ends.
    pub fn channel() -> (mpsc::Sender<io::Result<Bytes>>, Pieces) {
        let (sender, receiver) = mpsc::channel(ON_THE_WAY);
        (sender, Pieces(receiver))
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
