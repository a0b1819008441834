//! `neuralhub templates`.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::{Args, Subcommand};

use nh_compute::drivers::Driver;
use nh_compute::templates::{Said, Templates as Recipes};
use nh_compute::{ComputeSettings, DriverChoice};
use serde::Serialize;

use crate::cli::{Bind, Local, Output};
use crate::exit::Failure;
use crate::local;
use crate::output::{self, Progress, Unit};

/// What is told of the kernel of virtual machines.
const KERNEL: &str = "kernel of virtual machines";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Templates {
    #[command(subcommand)]
    command: Option<TemplatesCommand>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum TemplatesCommand {
    /// List the templates, and which are built on this host
    List(List),
    /// Build templates from Debian's and PyPI's packages, beside a running hub or not; what
    /// broke off goes on where it was
    Build(Build),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Build {
    /// Those to build [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    built: bool,
    description: String,
}

impl Templates {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            None => self.list.perform(),
            Some(TemplatesCommand::List(list)) => list.perform(),
            Some(TemplatesCommand::Build(build)) => build.perform().await,
        }
    }
}

fn recipes(local: &Local) -> Result<(Recipes, ComputeSettings), Failure> {
    let config = local::load(local, &Bind::default())?;
    let recipes = nh_compute::templates(&config.compute, &local.data_dir);
    Ok((recipes.map_err(anyhow::Error::new)?, config.compute))
}

impl List {
    fn perform(self) -> Result<(), Failure> {
        let (recipes, _) = recipes(&self.local)?;
        let listed = recipes.recipes().map(|(name, recipe)| Listed {
            name: name.to_owned(),
            built: recipes.root(name).is_ok_and(|root| root.is_some()),
            description: recipe.description.clone(),
        });
        let listed: Vec<Listed> = listed.collect();
        if self.output.json {
            return output::json(&listed);
        }
        let built = |built| if built { "yes" } else { "no" }.to_owned();
        let rows = listed.into_iter().map(|one| [one.name, built(one.built), one.description]);
        output::table(["NAME", "BUILT", "WHAT"], rows, "No templates.")
    }
}

impl Build {
    async fn perform(self) -> Result<(), Failure> {
        let (recipes, settings) = recipes(&self.local)?;
        let names: Vec<String> = match self.names.is_empty() {
            true => recipes.recipes().map(|(name, _)| name.to_owned()).collect(),
            false => self.names.clone(),
        };
        // A name that is none is told before the first minute of building.
        for name in &names {
            recipes.recipe(name).map_err(|error| Failure::Usage(error.to_string()))?;
        }
        let with_kernel = Driver::uses_kernel(&settings);
        let count = names.len() + usize::from(with_kernel);
        let mut built = BTreeMap::new();
        for (number, name) in names.iter().enumerate() {
            let progress = self.begin(number, count, name);
            let root = recipes.build(name, |said| show(&progress, said)).await;
            built.insert(name.clone(), root.with_context(|| why_not(&format!("the template `{name}`")))?);
        }
        if with_kernel {
            let progress = self.begin(names.len(), count, KERNEL);
            let kernel = recipes.build_kernel(|said| show(&progress, said)).await;
            drop(progress);
            match kernel.with_context(|| why_not("the kernel of virtual machines")) {
                Ok(kernel) => drop(built.insert(KERNEL.to_owned(), kernel)),
                // Where another driver may do, the templates are of use without it.
                Err(error) if settings.driver == DriverChoice::Auto => output::note(format!("{error:#}")),
                Err(error) => return Err(error.into()),
            }
        }
        if self.output.json {
            return output::json(&built);
        }
        built.iter().try_for_each(|(name, root)| output::line(format!("{name} is built: {}", root.display())))
    }

    fn begin(&self, number: usize, count: usize, name: &str) -> Progress {
        if !self.output.json {
            let step = format!("{} of {count}: {name}", number + 1);
            output::note(format!("{step} (a minute or two, if it is not built yet)"));
        }
        Progress::start(Unit::Percent, Some(100))
    }
}

fn show(progress: &Progress, said: &Said<'_>) {
    progress.at(said.percent);
    progress.say(output::short(said.line, 60));
}

fn why_not(what: &str) -> String {
    match rustix::process::geteuid().is_root() {
        true => format!("{what} is not built"),
        false => format!("{what} is not built; building needs root (sudo)"),
    }
}
