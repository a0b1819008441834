use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `[compute]`: sandboxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComputeSettings {
    /// What isolates sandboxes.
    pub driver: DriverChoice,
    /// Leave for `driver = "process"`, which shares the host's kernel with what runs inside.
    pub allow_process: bool,
    /// gVisor's program, by name or by path.
    #[schema(value_type = String)]
    pub runsc: PathBuf,
    /// The directory of the templates that were built. Absent: `templates` in the data
    /// directory. Hubs of one host may share one.
    #[schema(value_type = Option<String>)]
    pub templates_dir: Option<PathBuf>,
    /// A directory of recipes of one's own: a folder each, with a `recipe.toml`.
    #[schema(value_type = Option<String>)]
    pub recipes_dir: Option<PathBuf>,
    /// Sandboxes of each template that are kept started, so that nobody waits for one. 0:
    /// each is started when it is asked for; of virtual machines as a copy of the first.
    #[schema(maximum = 100)]
    pub pool_size: u32,
    /// What a sandbox may have in memory, its files included, where a request says
    /// nothing, in MiB.
    #[schema(minimum = 64)]
    pub memory_mb: u32,
    /// The most that a request may ask for.
    #[schema(minimum = 64)]
    pub max_memory_mb: u32,
    /// The processors of a sandbox, where a request says nothing.
    #[schema(minimum = 0.1)]
    pub cpus: f64,
    /// The most that a request may ask for.
    #[schema(minimum = 0.1)]
    pub max_cpus: f64,
    /// Processes in a sandbox at once.
    #[schema(minimum = 8, maximum = 4096)]
    pub max_processes: u32,
    /// What the home folder of a sandbox may hold, and `/tmp` as much, in MiB.
    #[schema(minimum = 1)]
    pub disk_mb: u32,
    /// What one command or piece of code may write and show, in bytes; what is more is
    /// left out.
    #[schema(minimum = 1024, maximum = 67108864)]
    pub max_output_bytes: u64,
    /// Sandboxes' own servers are at `{id}.` before this name, each an origin of its own.
    /// Absent: `localhost`, which browsers of this machine alone reach. Another one, such
    /// as `sandboxes.example.com`, needs a DNS name and a certificate for all below it, and
    /// should share no site with the hub's own.
    pub sandbox_domain: Option<String>,
    /// Sandboxes that a workspace may have at once.
    #[schema(minimum = 1)]
    pub max_per_workspace: u32,
    /// US dollars for an hour of a sandbox, as `/v1/usage` and budgets count it. Absent: it
    /// has no price.
    #[schema(minimum = 0, maximum = 1000)]
    pub price_per_hour: Option<f64>,
}

/// What isolates sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriverChoice {
    /// The best that this host has: virtual machines where its processor helps, gVisor,
    /// virtual machines that are emulated. Never `process`.
    Auto,
    /// Virtual machines, emulated where the processor does not help.
    Microvm,
    /// gVisor, a kernel in user space.
    Gvisor,
    /// A process of this host, apart by its own kernel alone. Needs `allow_process`.
    Process,
    /// There are none.
    Off,
}

impl Default for ComputeSettings {
    fn default() -> Self {
        Self {
            driver: DriverChoice::Auto,
            allow_process: false,
            runsc: PathBuf::from("runsc"),
            templates_dir: None,
            recipes_dir: None,
            pool_size: 1,
            memory_mb: 1024,
            max_memory_mb: 4096,
            cpus: 1.0,
            max_cpus: 4.0,
            max_processes: 128,
            disk_mb: 512,
            max_output_bytes: 2 << 20,
            sandbox_domain: None,
            max_per_workspace: 20,
            price_per_hour: None,
        }
    }
}
