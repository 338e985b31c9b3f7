//! Controller and command line of forwarder.
