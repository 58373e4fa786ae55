//! Puts into the binary how far it is optimised, and the commit that is built where there is one.

use std::process::Command;

fn main() {
    let level = std::env::var("OPT_LEVEL").expect("cargo tells it");
    println!("cargo:rustc-env=STRATA_OPT_LEVEL={level}");
    // What changes when the checkout does; absent where this is no checkout, and then cargo runs this again, cheaply.
    for path in ["../../.git/HEAD", "../../.git/index", "build.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let described = Command::new("git")
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ])
        .output();
    if let Ok(output) = described
        && output.status.success()
        && let Ok(commit) = String::from_utf8(output.stdout)
    {
        println!("cargo:rustc-env=STRATA_COMMIT={}", commit.trim());
    }
}
