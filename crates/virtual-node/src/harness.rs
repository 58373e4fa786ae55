//! Ordinary tests that run in a guest.
//!
//! A test calls [`on`] with the node that it wants. Outside, that starts such a node, or takes the one that is up already, and
//! runs the same test of the same program in it; inside, it runs what it was given. So the test's name, its output and its
//! end are those of any other, and filters and `--list` do what they always do.

use std::any::type_name;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::guest::quoted;
use crate::image::NotFetched;
use crate::inside::{INSIDE, Node, is_inside};
use crate::{Guest, Image, Seen, Share, description, lacking};

/// How long a test may take in a guest under software emulation.
const LONGEST: Duration = Duration::from_secs(240);

/// The nodes that are up; one test at a time, since they share this machine's cores.
static UP: Mutex<BTreeMap<String, Guest>> = Mutex::new(BTreeMap::new());

/// Runs a test in a node: a name of [`crate::NODES`], or a file that ends in `.toml`.
///
/// # Panics
/// The test fails, or the node crashes under it. Without QEMU, or what it boots, it prints `SKIP`, and why.
pub fn on<F: FnOnce(&Node)>(node: &str, test: F) {
    if is_inside() {
        test(&Node::new());
        return;
    }
    let name = name_of::<F>();
    let Some(image) = image_or_skip(&name) else {
        return;
    };
    match outside(&image, node, &name) {
        Ok(true) => {}
        Ok(false) => panic!("{name} failed in the virtual node; its output stands above"),
        Err(why) => panic!("{name}: {why:#}"),
    }
}

/// A closure's type is named after the function that it stands in, and that is the test; also where a helper was given the
/// test's closure and gives its own.
fn name_of<F>() -> String {
    test_of(type_name::<F>())
}

fn test_of(closure: &str) -> String {
    let inner = closure.rfind('<').map_or(closure, |at| &closure[at + 1..]);
    let path = inner.split("::{{closure}}").next().unwrap_or(inner);
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    name.to_owned()
}

/// What a node boots, for a test that starts one itself; where there is no QEMU here, or the packages cannot be fetched, it
/// prints `SKIP`, and why. Asked once a process.
///
/// # Panics
/// It cannot be made of what was fetched.
pub fn image_or_skip(test: &str) -> Option<Image> {
    static FOUND: OnceLock<Result<Image, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        if let Some(why) = lacking() {
            return Err(why);
        }
        Image::ready(&mut tell).map_err(|why| {
            assert!(why.is::<NotFetched>(), "{why:#}");
            format!("{why:#}")
        })
    });
    match found {
        Ok(image) => Some(image.clone()),
        Err(why) => {
            // On one line, whatever apt said.
            println!("SKIP {test}: {}", why.replace('\n', " "));
            None
        }
    }
}

fn outside(image: &Image, node: &str, name: &str) -> Result<bool> {
    let mut up = UP.lock().unwrap_or_else(PoisonError::into_inner);
    if up.get_mut(node).is_some_and(|guest| !guest.is_whole()) {
        up.remove(node);
    }
    if !up.contains_key(node) {
        // More would take too much of the machine's memory.
        while up.len() > 1 {
            up.pop_first();
        }
        let begun = std::time::Instant::now();
        let guest = Guest::start(image, &description(node)?, &seen()?)
            .with_context(|| format!("the virtual node {node} does not start"))?;
        // Why it is not by KVM is told once.
        static TOLD: AtomicBool = AtomicBool::new(false);
        let mut how = guest.runs();
        if TOLD.swap(true, Ordering::Relaxed) {
            how.truncate(how.find(':').unwrap_or(how.len()));
        }
        tell(&format!(
            "the virtual node {node} came up in {:.1} s, {how}",
            begun.elapsed().as_secs_f64()
        ));
        up.insert(node.to_owned(), guest);
    }
    let guest = up.get_mut(node).context("a node is missing")?;
    let program = std::env::current_exe()?;
    let script = format!(
        "export {INSIDE}={}\nexec {} --exact '{name}' --nocapture --test-threads=1\n",
        quoted(node),
        quoted(&program.display().to_string())
    );
    let ran = guest.run(&script, LONGEST);
    let ran = match ran {
        Ok(ran) => ran,
        Err(why) => {
            up.remove(node);
            return Err(why);
        }
    };
    print!("{}", ran.output);
    let passed = ran.status == 0 && ran.output.contains("test result: ok. 1 passed");
    if !passed {
        // What it left behind is nobody else's business.
        up.remove(node);
    }
    let word = if passed { "passed" } else { "FAILED" };
    tell(&format!(
        "{name} {word} in the virtual node {node} in {:.1} s",
        ran.took.as_secs_f64()
    ));
    Ok(passed)
}

/// Past the capture of the test's output: what takes long is seen while it does.
fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// The folder of what cargo built, with this test and the command that it tests; and the repository, whose files tests read.
fn seen() -> Result<Seen> {
    let program = std::env::current_exe()?;
    let built = program
        .ancestors()
        .nth(2)
        .context("the test lies in no folder of cargo's")?;
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let repository = package.iter().flat_map(|p| p.ancestors());
    let repository = repository.filter(|folder| folder.join("Cargo.lock").exists());
    let mut shares: Vec<PathBuf> = repository.take(1).map(PathBuf::from).collect();
    if !shares.iter().any(|folder| built.starts_with(folder)) {
        shares.push(built.to_owned());
    }
    Ok(Seen {
        folders: shares.into_iter().map(Share::read_only).collect(),
        programs: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_known_by_its_closure() {
        let helped = "vfio::on_drive<vfio::part::it_reads::{{closure}}>::{{closure}}";
        assert_eq!(test_of(helped), "part::it_reads");
        assert_eq!(
            test_of("node::block::it_reads::{{closure}}"),
            "block::it_reads"
        );
        fn of<F>(_: F) -> String {
            name_of::<F>()
        }
        assert_eq!(of(|| ()), "harness::tests::a_test_is_known_by_its_closure");
    }
}
