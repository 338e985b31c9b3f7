//! The guide, followed word for word on a router that has nothing yet.

use std::path::{Path, PathBuf};

use anyhow::Result;
use forwarder_tests::guide::Stage;

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/guide")
        .join(name)
}

/// The first page, then another on the same router.
fn follow(more: &[&str]) -> Result<()> {
    let mut stage = Stage::new()?;
    stage.traffic()?;
    stage.follow(&page("first-router.md"))?;
    more.iter().try_for_each(|name| stage.follow(&page(name)))
}

#[test]
fn a_first_router() -> Result<()> {
    follow(&[])
}

#[test]
fn with_bird_and_then_filters_and_accounts() -> Result<()> {
    follow(&["bird.md", "filters.md", "billing.md"])
}

#[test]
fn with_frr() -> Result<()> {
    follow(&["frr.md"])
}

#[test]
fn with_keepalived() -> Result<()> {
    follow(&["keepalived.md"])
}
