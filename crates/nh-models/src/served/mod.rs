//! Other protocols that clients speak, over OpenAI's chat inside.

pub mod responses;
