//! Workflows: [`expression`] is the `{{ … }}` in them, [`plan`] the graph of
//! their steps, [`decide`] what comes next in a run, [`check`] what may stand
//! in one.

pub mod check;
pub mod decide;
pub mod expression;
pub mod plan;
pub(crate) mod work;
