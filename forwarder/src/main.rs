//! The `forwarder` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    forwarder::cli::main()
}
