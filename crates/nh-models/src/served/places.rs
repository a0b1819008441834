//! Where what a chat's messages say stands in the request of a client that speaks another protocol.

use crate::ModelError;

/// By the places of a chat's messages, those in the client's request, such as `input[1]`.
#[derive(Debug, Default)]
pub struct Places(Vec<String>);

impl Places {
    /// The messages up to the `end`th that have no place yet come from here.
    pub(super) fn up_to(&mut self, end: usize, place: &str) {
        if self.0.len() < end {
            self.0.resize(end, place.to_owned());
        }
    }

    /// The same error, with a fault that the hub found in a message named where the client put it.
    pub fn told(&self, error: ModelError) -> ModelError {
        let ModelError::Invalid { message, param } = error else { return error };
        let index = param.strip_prefix("messages[").and_then(|rest| rest.split_once(']')?.0.parse().ok());
        match index.and_then(|index: usize| self.0.get(index)) {
            // What is within a message has other names there.
            Some(place) => ModelError::Invalid {
                message: message.replace(&format!("`{param}`"), &format!("`{place}`")),
                param: place.clone(),
            },
            None => ModelError::Invalid { message, param },
        }
    }
}
