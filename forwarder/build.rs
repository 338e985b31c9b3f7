//! Builds the XDP program, and the harness that `forwarder bench` runs it in, and leaves them in `$OUT_DIR`, for
//! `aya::include_bytes_aligned!`.

#[path = "../xtask/src/ebpf.rs"]
mod ebpf;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    for path in ["forwarder-ebpf", "forwarder-common", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed=../{path}");
    }
    match objects() {
        Ok(warnings) => {
            for line in warnings.lines() {
                println!("cargo::warning={line}");
            }
            ExitCode::SUCCESS
        }
        // A missing tool is one line, which cargo then shows alone; a compiler has more to say.
        Err(why) if !why.trim_end().contains('\n') => {
            println!("cargo::error={why}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Builds and copies the objects; what the compiler had to say otherwise.
fn objects() -> Result<String, String> {
    let directory = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .ok_or(format!("{name} is not set"))
    };
    let out = directory("OUT_DIR")?;
    let manifest = directory("CARGO_MANIFEST_DIR")?;
    let workspace = manifest
        .parent()
        .ok_or("this package stands outside its workspace")?;
    let target = inner_target(&out);
    let harness = "forwarder-harness";
    let mut warnings = String::new();
    for (name, built) in [
        ("forwarder-ebpf", ebpf::build(workspace, &target, false)?),
        (
            harness,
            ebpf::build_binary(workspace, "forwarder-ebpf", harness, &target, false)?,
        ),
    ] {
        let (object, said) = built;
        let copy = out.join(format!("{name}.o"));
        fs::copy(&object, &copy)
            .map_err(|e| format!("cannot copy {} to {}: {e}", object.display(), copy.display()))?;
        warnings += &said;
    }
    Ok(warnings)
}

/// `target/bpf`, which all profiles share, since the object does not depend on them. OUT_DIR is
/// `target/PROFILE/build/PACKAGE/out`; where that does not hold, a directory of this build's own.
fn inner_target(out: &Path) -> PathBuf {
    let build = out.ancestors().find(|path| path.ends_with("build"));
    build
        .and_then(|build| build.parent()?.parent())
        .unwrap_or(out)
        .join("bpf")
}
