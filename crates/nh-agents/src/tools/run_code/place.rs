use nh_compute::{Author, Compute, MAX_LIFE_SECONDS, New, OfRun};
use nh_types::sandbox::CodeLanguage;

use super::failed;
use crate::tools::tool::{ToolCall, ToolError};

/// Where code of a language runs: the sandbox of the run that has it run, there from its
/// first use to the run's end.
#[derive(Clone)]
pub(in crate::tools) struct Place {
    pub(in crate::tools) compute: Compute,
    /// The first that is built on this host is taken.
    templates: &'static [&'static str],
}

impl Place {
    pub(in crate::tools) fn of(language: CodeLanguage, compute: Compute) -> Self {
        let templates: &[&str] = match language {
            CodeLanguage::Nodejs => &["nodejs"],
            CodeLanguage::Python | CodeLanguage::Bash => &["python-data", "python"],
        };
        Self { compute, templates }
    }

    fn template(&self) -> Option<&'static str> {
        let built = self.compute.templates();
        let is_built = |name: &&&str| built.iter().any(|one| one.available && one.name == **name);
        self.templates.iter().find(is_built).copied()
    }

    /// Why there can be none, and what would help.
    pub(in crate::tools) fn unavailable(&self) -> Option<String> {
        if let Some(reason) = self.compute.unavailable() {
            return Some(format!("no sandbox can be isolated on this host: {reason}"));
        }
        self.template().is_none().then(|| self.not_built())
    }

    fn not_built(&self) -> String {
        let names = self.templates.join(" or ");
        let build = self.templates.first().copied().unwrap_or_default();
        format!(
            "the template {names} is not built on this host: `neuralhub templates build {build}` does that"
        )
    }

    pub(in crate::tools) async fn sandbox(&self, call: &ToolCall<'_>) -> Result<OfRun, ToolError> {
        let template = self.template().ok_or_else(|| ToolError::new("unavailable_tool", self.not_built()))?;
        let author = Author {
            workspace_id: call.workspace_id.clone(),
            created_by: call.created_by.to_owned(),
            run_id: Some(call.run_id),
        };
        let new = New {
            template: template.to_owned(),
            env: Default::default(),
            life_seconds: Some(MAX_LIFE_SECONDS),
            memory_mb: None,
            cpus: None,
        };
        self.compute.of_run(author, call.run_id, new).await.map_err(failed)
    }
}
