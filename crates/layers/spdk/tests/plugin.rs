//! Plugins that are none, or of another version, and what is said of them: made of a few lines of C.

use std::path::{Path, PathBuf};
use std::process::Command;

use strata_spdk::{NAME, Plugin, PluginError};
use strata_spdk_abi::{MAGIC, Table, VERSION};
use tempfile::TempDir;

/// A shared object of this source; none without a C compiler.
fn shared(folder: &TempDir, name: &str, source: &str) -> Option<PathBuf> {
    let (text, object) = (
        folder.path().join(format!("{name}.c")),
        folder.path().join(format!("{name}.so")),
    );
    std::fs::write(&text, source).expect("a file");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut command = Command::new(compiler);
    command
        .args(["-shared", "-fPIC", "-o"])
        .args([&object, &text]);
    match command.status() {
        Ok(status) => {
            assert!(status.success(), "{source}");
            Some(object)
        }
        Err(why) => {
            println!("SKIP {name}: no C compiler: {why}");
            None
        }
    }
}

/// A plugin with a table that begins so, and is long enough.
fn table(magic: u64, version: u32, bytes: usize) -> String {
    format!(
        "static struct {{ unsigned long magic; unsigned version, bytes; void *rest[64]; }} table = {{ {magic}ul, {version}u, {bytes}u, {{ 0 }} }};\n\
         void *strata_spdk_plugin(void) {{ return &table; }}\n"
    )
}

fn refused(path: &Path) -> PluginError {
    match Plugin::at(path) {
        Ok(_) => panic!("{} was taken", path.display()),
        Err(why) => why,
    }
}

#[test]
fn what_is_no_plugin_of_this_version_is_told_and_not_called() {
    let folder = TempDir::new().expect("a folder");
    let whole = size_of::<Table>();
    let Some(other) = shared(&folder, "other", &table(MAGIC, VERSION + 1, whole)) else {
        return;
    };
    assert_eq!(
        refused(&other).to_string(),
        format!(
            "{} is a plugin of version {}, and this strata has {VERSION}; build it again from the same sources (`make spdk-plugin`)",
            other.display(),
            VERSION + 1
        )
    );
    for (name, source) in [
        ("magic", table(MAGIC + 1, VERSION, whole)),
        ("short", table(MAGIC, VERSION, whole - 8)),
        (
            "nothing",
            "void *strata_spdk_plugin(void) { return 0; }\n".to_owned(),
        ),
        ("empty", "int other;\n".to_owned()),
    ] {
        let path = shared(&folder, name, &source).expect("a compiler");
        let why = refused(&path);
        assert_eq!(why, PluginError::Foreign { path: path.clone() }, "{name}");
        assert!(why.to_string().ends_with("is no plugin of strata's"));
    }
    let lacking = shared(
        &folder,
        "lacking",
        "int nobody_has_this(void);\nint other(void) { return nobody_has_this(); }\n",
    );
    let why = refused(&lacking.expect("a compiler"));
    assert!(
        matches!(&why, PluginError::Unloadable { why, .. } if why.contains("nobody_has_this")),
        "{why}"
    );
}

#[test]
fn what_is_not_there_says_how_it_is_made() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join(NAME);
    let why = refused(&path);
    assert!(matches!(&why, PluginError::Unloadable { .. }), "{why}");
    std::fs::write(&path, "no library").expect("a file");
    let why = refused(&path).to_string();
    assert!(why.contains("make spdk-plugin"), "{why}");
    let said = PluginError::Absent.to_string();
    assert!(
        said.contains("STRATA_SPDK_PLUGIN") && !said.contains('\n'),
        "{said}"
    );
}
