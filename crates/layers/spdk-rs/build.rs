//! Finds the node's SPDK by its pkg-config files, compares our declarations with its headers, and links against it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The oldest release whose calls are as declared here.
const OLDEST: (u64, u64) = (22, 1);

/// What is linked: the driver with its transports, the environment, sockets, and what DPDK needs beside.
const WANTED: [&str; 2] = ["spdk_nvme", "spdk_env_dpdk"];

/// Of these each is linked where there is one: releases differ in how they are cut.
const BESIDE: [&str; 3] = ["spdk_sock_posix", "spdk_sock_modules", "spdk_keyring"];

/// What the options of the environment have, and when it came: 23.01, 23.05 (a member that moved those behind it), 24.01 and
/// 24.09 (one that the caller sets).
const FLAGS: [&str; 4] = ["vf_token", "lcore_map", "no_huge", "opts_size"];

/// What the driver and its transports use of the system.
const SYSTEM: [&str; 11] = [
    "uuid", "ssl", "crypto", "numa", "rt", "dl", "m", "rdmacm", "ibverbs", "mlx5", "bsd",
];

fn main() {
    for variable in ["PKG_CONFIG_PATH", "SPDK_DIR", "CC"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    for file in ["src/layout.c", "src/log.c"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let spdk = Spdk::find();
    let include = spdk.ask(&["--cflags"], &WANTED);
    let include: Vec<&str> = include.split_whitespace().collect();
    let layout = layout(&include);
    let version = (layout["version_major"], layout["version_minor"]);
    if version < OLDEST {
        fail(&format!(
            "SPDK {}.{:02} is older than {}.{:02}, the first that is supported",
            version.0, version.1, OLDEST.0, OLDEST.1
        ));
    }
    for flag in FLAGS {
        if layout[flag] == 1 {
            println!("cargo::rustc-cfg={flag}");
        }
    }
    let constants: String = layout
        .iter()
        .filter(|(name, _)| !FLAGS.contains(&name.as_str()))
        .map(|(name, value)| {
            format!(
                "pub(crate) const {}: usize = {value};\n",
                name.to_uppercase()
            )
        })
        .collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    if let Err(why) = std::fs::write(out.join("layout.rs"), constants) {
        fail(&format!("{}: {why}", out.display()));
    }
    let mut shim = cc::Build::new();
    shim.file("src/log.c").warnings(true);
    include.iter().for_each(|flag| {
        shim.flag(flag);
    });
    shim.compile("strata_spdk_log");
    spdk.link();
}

fn fail(why: &str) -> ! {
    eprintln!("{why}");
    exit(1);
}

/// Where pkg-config looks.
struct Spdk {
    path: OsString,
}

impl Spdk {
    fn find() -> Spdk {
        let mut folders: Vec<PathBuf> = Vec::new();
        if let Some(root) = env::var_os("SPDK_DIR") {
            let root = PathBuf::from(root);
            // As it was built, with its own DPDK; and as it is installed.
            for below in [
                "build/lib/pkgconfig",
                "dpdk/build/lib/pkgconfig",
                "dpdk/build/lib/x86_64-linux-gnu/pkgconfig",
                "lib/pkgconfig",
                "lib64/pkgconfig",
            ] {
                folders.push(root.join(below));
            }
        }
        if let Some(path) = env::var_os("PKG_CONFIG_PATH") {
            folders.extend(env::split_paths(&path));
        }
        let path = env::join_paths(folders).unwrap_or_default();
        let spdk = Spdk { path };
        for name in WANTED {
            if !spdk.has(name) {
                fail(&format!(
                    "pkg-config knows no {name}: build SPDK, and give its folder as SPDK_DIR (or its build/lib/pkgconfig, and its DPDK's, in PKG_CONFIG_PATH)"
                ));
            }
        }
        spdk
    }

    fn command(&self) -> Command {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", &self.path);
        command
    }

    fn has(&self, name: &str) -> bool {
        let status = self.command().args(["--exists", name]).status();
        status.is_ok_and(|status| status.success())
    }

    fn ask(&self, how: &[&str], names: &[&str]) -> String {
        let ran = self.command().args(how).args(names).output();
        match ran {
            Ok(ran) if ran.status.success() => String::from_utf8_lossy(&ran.stdout).into_owned(),
            Ok(ran) => fail(&String::from_utf8_lossy(&ran.stderr)),
            Err(why) => fail(&format!("pkg-config: {why}")),
        }
    }

    /// Whole archives where they exist, since drivers register by constructors; shared libraries otherwise.
    fn link(&self) {
        let beside = BESIDE.into_iter().filter(|name| self.has(name));
        let names: Vec<&str> = WANTED.into_iter().chain(beside).collect();
        let said = self.ask(&["--libs"], &names);
        let flags: Vec<&str> = said.split_whitespace().collect();
        let folders: Vec<&Path> = flags
            .iter()
            .filter_map(|flag| flag.strip_prefix("-L").map(Path::new))
            .collect();
        let (mut archives, mut shared) = (Vec::new(), Vec::new());
        for flag in &flags {
            let Some(name) = flag.strip_prefix("-l") else {
                continue;
            };
            let file = match name.strip_prefix(':') {
                Some(file) => file.to_owned(),
                None => format!("lib{name}.a"),
            };
            let archive = folders
                .iter()
                .map(|folder| folder.join(&file))
                .find(|a| a.exists());
            match archive {
                Some(archive) if !archives.contains(&archive) => archives.push(archive),
                Some(_) => {}
                None => shared.push((*flag).to_owned()),
            }
        }
        let arg = |arg: &str| println!("cargo::rustc-cdylib-link-arg={arg}");
        arg("-Wl,--whole-archive");
        for archive in &archives {
            arg(&archive.display().to_string());
        }
        arg("-Wl,--no-whole-archive");
        for folder in &folders {
            arg(&format!("-L{}", folder.display()));
        }
        if !shared.is_empty() {
            arg("-Wl,--no-as-needed");
            shared.iter().for_each(|flag| arg(flag));
            // Where they lie is known now, and to nobody later.
            for folder in &folders {
                arg(&format!("-Wl,-rpath,{}", folder.display()));
            }
        }
        arg("-Wl,--as-needed");
        if !archives.is_empty() && self.has("spdk_syslibs") {
            // They are those of all of SPDK.
            let system = self.ask(&["--libs", "--static"], &["spdk_syslibs"]);
            let used = |flag: &&str| {
                flag.ends_with(".a") || flag.strip_prefix("-l").is_some_and(|l| SYSTEM.contains(&l))
            };
            system.split_whitespace().filter(used).for_each(arg);
        }
        for library in ["-lnuma", "-ldl", "-lpthread", "-lm"] {
            arg(library);
        }
    }
}

/// What the headers say, by running a program that was compiled with them.
fn layout(include: &[&str]) -> BTreeMap<String, u64> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let program = out.join("layout");
    let mut build = cc::Build::new();
    build.warnings(false);
    let compiler = build.get_compiler();
    let ran = compiler
        .to_command()
        .args(include)
        .arg("src/layout.c")
        .arg("-o")
        .arg(&program)
        .output();
    match ran {
        Ok(ran) if ran.status.success() => {}
        Ok(ran) => fail(&format!(
            "SPDK's headers do not have what is used of them:\n{}",
            String::from_utf8_lossy(&ran.stderr)
        )),
        Err(why) => fail(&format!("the C compiler: {why}")),
    }
    let Ok(told) = Command::new(&program).output() else {
        fail("what was compiled with SPDK's headers does not run here");
    };
    String::from_utf8_lossy(&told.stdout)
        .lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}
