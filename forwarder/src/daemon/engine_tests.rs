//! The controller's logic on the in-memory data path.

use super::*;
