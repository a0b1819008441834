//! `neuralhub models`.

use clap::Args;
use nh_types::model::ModelList;
use serde_json::Value;

use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Args)]
pub struct Models {
    #[command(flatten)]
    client: ClientArgs,
}

impl Models {
    pub async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        if self.client.output.json {
            return output::json(&client.get::<Value>("/v1/models").await?);
        }
        let list: ModelList = client.get("/v1/models").await?;
        let rows = list.data.into_iter().map(|model| {
            let context = model.context_length.map_or_else(|| "-".to_owned(), |tokens| tokens.to_string());
            [
                model.id,
                model.owned_by,
                price(model.input_cost),
                price(model.output_cost),
                context,
                model.capabilities.join(","),
            ]
        });
        output::table(["MODEL", "PROVIDER", "IN $/M", "OUT $/M", "CONTEXT", "CAN"], rows, "No models.")
    }
}

fn price(cost: Option<f64>) -> String {
    cost.map_or_else(|| "-".to_owned(), |cost| cost.to_string())
}
