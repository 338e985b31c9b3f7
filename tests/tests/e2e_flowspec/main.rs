//! FlowSpec rules that daemons announce, with packets they are about: what arrives at the receiver, and what the operator is
//! told of it.

mod bird;
mod exabgp;
mod gobgp;
mod scene;
