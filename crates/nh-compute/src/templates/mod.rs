//! Templates: the systems that sandboxes begin with. Each is built once from its recipe,
//! and found again by the recipe's hash.

mod build;
mod recipe;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

pub use build::Said;
pub use recipe::Recipe;

/// Those that every hub has.
const BUILTIN: [(&str, &str); 3] = [
    ("nodejs", include_str!("../../../../templates/nodejs/recipe.toml")),
    ("python", include_str!("../../../../templates/python/recipe.toml")),
    ("python-data", include_str!("../../../../templates/python-data/recipe.toml")),
];

/// Of what is taken of a kernel: one more, and it is fetched anew.
const KERNEL_FORMAT: u32 = 1;

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("there is no template `{name}`; there are {known}")]
    Unknown { name: String, known: String },
    #[error("the recipe of template `{name}` cannot be used: {reason}")]
    Recipe { name: String, reason: String },
    #[error("`mmdebstrap` cannot be started ({0}); install Debian's package mmdebstrap")]
    NoProgram(io::Error),
    #[error("template `{name}` could not be built: {reason}")]
    Failed { name: String, reason: String },
    #[error("{}: {error}", path.display())]
    Files { path: PathBuf, error: io::Error },
}

/// The recipes that a hub knows, and where it has what was built from them.
#[derive(Clone, Debug)]
pub struct Templates {
    directory: PathBuf,
    recipes: BTreeMap<String, Recipe>,
}

impl Templates {
    /// With those of the user's folder `own`, a folder each with a `recipe.toml`, which
    /// come before the hub's.
    pub fn open(directory: PathBuf, own: Option<&Path>) -> Result<Self, TemplateError> {
        let mut recipes = BTreeMap::new();
        for (name, text) in BUILTIN {
            recipes.insert(name.to_owned(), Recipe::read(name, text)?);
        }
        if let Some(own) = own {
            let at = |path: &Path| {
                let path = path.to_owned();
                move |error| TemplateError::Files { path, error }
            };
            for entry in fs::read_dir(own).map_err(at(own))? {
                let entry = entry.map_err(at(own))?;
                let path = entry.path().join("recipe.toml");
                if path.exists() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let recipe = Recipe::read(&name, &fs::read_to_string(&path).map_err(at(&path))?)?;
                    recipes.insert(name, recipe);
                }
            }
        }
        // What starts sandboxes is in another folder.
        let directory = std::path::absolute(&directory)
            .map_err(|error| TemplateError::Files { path: directory, error })?;
        Ok(Self { directory, recipes })
    }

    /// By name.
    pub fn recipes(&self) -> impl Iterator<Item = (&str, &Recipe)> {
        self.recipes.iter().map(|(name, recipe)| (name.as_str(), recipe))
    }

    pub fn recipe(&self, name: &str) -> Result<&Recipe, TemplateError> {
        self.recipes.get(name).ok_or_else(|| TemplateError::Unknown {
            name: name.to_owned(),
            known: self.recipes.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        })
    }

    /// The files of a template; None: it is not built.
    pub fn root(&self, name: &str) -> Result<Option<PathBuf>, TemplateError> {
        let root = self.built(name)?.join("root");
        Ok(root.exists().then_some(root))
    }

    /// The folder of the kernel of virtual machines; None: it was not fetched.
    pub fn kernel(&self) -> Option<PathBuf> {
        Some(self.kernel_folder()).filter(|folder| folder.exists())
    }

    fn kernel_folder(&self) -> PathBuf {
        self.directory.join(format!("kernel-{}-{KERNEL_FORMAT}", build::KERNEL_SUITE))
    }

    fn built(&self, name: &str) -> Result<PathBuf, TemplateError> {
        Ok(self.directory.join(format!("{name}-{}", self.recipe(name)?.hash())))
    }
}
