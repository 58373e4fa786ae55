//! The plugin: found, loaded, and held against what this program was built with.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use strata_spdk_abi::{Entry, MAGIC, SYMBOL, Table, VERSION};

/// The plugin's file.
pub const NAME: &str = "libstrata_spdk.so";

/// The variable that names it.
const VARIABLE: &str = "STRATA_SPDK_PLUGIN";

/// Why there is no plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// There is none.
    #[error(
        "the engine spdk needs its plugin, and there is no {NAME} beside the program; build it where SPDK is (`SPDK_DIR=… make spdk-plugin`), or name it by {VARIABLE}"
    )]
    Absent,
    /// The one that was named is not there.
    #[error("{VARIABLE} names {}, which is not there", path.display())]
    NotThere {
        /// What was named.
        path: PathBuf,
    },
    /// It cannot be loaded.
    #[error(
        "{} cannot be loaded: {why}; build it again on this node (`SPDK_DIR=… make spdk-plugin`)", path.display()
    )]
    Unloadable {
        /// The plugin.
        path: PathBuf,
        /// What the loader says.
        why: String,
    },
    /// It is none.
    #[error("{} is no plugin of strata's", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is of another version.
    #[error(
        "{} is a plugin of version {found}, and this strata has {VERSION}; build it again from the same sources (`make spdk-plugin`)", path.display()
    )]
    Version {
        /// The plugin.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// A plugin that is loaded, and stays so: SPDK starts threads, and registers what is never taken back.
#[derive(Clone, Copy)]
pub struct Plugin {
    table: &'static Table,
}

impl Plugin {
    /// The plugin that `STRATA_SPDK_PLUGIN` names, or else the one beside this program.
    ///
    /// # Errors
    /// [`PluginError`].
    pub fn find() -> Result<Plugin, PluginError> {
        Plugin::at(&Plugin::place()?)
    }

    /// Where [`Plugin::find`] would find it.
    ///
    /// # Errors
    /// [`PluginError::Absent`], [`PluginError::NotThere`].
    pub fn place() -> Result<PathBuf, PluginError> {
        if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
            let path = PathBuf::from(named);
            return if path.is_file() {
                Ok(path)
            } else {
                Err(PluginError::NotThere { path })
            };
        }
        let program = std::env::current_exe().ok();
        let beside = program.and_then(|program| Some(program.parent()?.join(NAME)));
        beside
            .filter(|path| path.is_file())
            .ok_or(PluginError::Absent)
    }

    /// The plugin in that file.
    ///
    /// # Errors
    /// [`PluginError`].
    pub fn at(path: &Path) -> Result<Plugin, PluginError> {
        let unloadable = |e: libloading::Error| PluginError::Unloadable {
            path: path.to_owned(),
            why: last(&e),
        };
        // SAFETY: the constructors of what is loaded run here. They are those of SPDK and DPDK, which register drivers; the
        // file is the one that the user names, or that lies beside this program.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(unloadable)?;
        let foreign = || PluginError::Foreign {
            path: path.to_owned(),
        };
        // SAFETY: the symbol is such a function in every plugin; other libraries do not have it.
        let entry = unsafe { library.get::<Entry>(SYMBOL) }.map_err(|_| foreign())?;
        // SAFETY: as above.
        let table = unsafe { entry() };
        if table.is_null() || !table.is_aligned() {
            return Err(foreign());
        }
        // SAFETY: it begins with these two in every version, and may be shorter than ours behind them.
        let (magic, version) = unsafe { ((*table).magic, (*table).version) };
        if magic != MAGIC {
            return Err(foreign());
        }
        if version != VERSION {
            return Err(PluginError::Version {
                path: path.to_owned(),
                found: version,
            });
        }
        // SAFETY: of this version it is a whole table, which is never written, of a library that stays loaded from here on.
        let table: &'static Table = unsafe { &*table };
        if table.bytes as usize != size_of::<Table>() {
            return Err(foreign());
        }
        std::mem::forget(library);
        Ok(Plugin { table })
    }

    pub(crate) fn table(&self) -> &'static Table {
        self.table
    }

    /// The version of SPDK that it was built with.
    pub fn spdk(&self) -> String {
        // SAFETY: a constant string of the plugin's, which ends with a null byte.
        let text = unsafe { CStr::from_ptr((self.table.spdk)()) };
        text.to_string_lossy().into_owned()
    }
}

/// The innermost reason, which is the loader's.
fn last(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), last)
}
