//! Properties of the decide function: whatever the model asks for and however
//! its tools come out, the loop ends, asks for nothing twice, and gives the
//! same answer for the same journal.

use std::collections::BTreeSet;

use nh_agents::agent::decide::{Calling, RequestedCall, decide};
use nh_agents::agent::{MODEL_STEP, TOOL_STEP};
use nh_agents::definition::PinnedAgent;
use nh_engine::{Decision, Ending, Event, History, Step};
use nh_store::runs::EventRow;
use nh_types::Timestamp;
use nh_types::agent::AgentDefinition;
use nh_types::model::Usage;
use nh_types::run::RunError;
use proptest::prelude::*;
use serde_json::{Value, json};

fn agent(max_steps: u32) -> PinnedAgent {
    PinnedAgent {
        own_tools: Box::default(),
        id: "agent_default".parse().expect("an id"),
        version: 1,
        agent: AgentDefinition { max_steps, ..AgentDefinition::default_agent() },
        model_id: "neuralhub/offline".to_owned(),
        tools: vec!["calculate".to_owned()],
        runs: Vec::new(),
    }
}

fn calling(_: &RequestedCall) -> Calling {
    Calling { repeatable: true, asks: false, is_made: true }
}

/// A journal under construction.
#[derive(Clone, Default)]
struct Journal(Vec<EventRow>);

impl Journal {
    fn push(&mut self, event: &Event) {
        let tagged = serde_json::to_value(event).expect("an event");
        self.0.push(EventRow {
            seq: self.0.len() as i64 + 1,
            kind: tagged["type"].as_str().expect("a type").to_owned(),
            at: Timestamp::from_millis(1_000),
            data: tagged["data"].clone().into(),
        });
    }

    fn complete(&mut self, step: &str, output: Value) {
        self.push(&Event::StepCompleted {
            step: step.to_owned(),
            output,
            usage: Usage::NONE,
            within: Vec::new(),
        });
    }

    fn history(&self) -> History {
        History::read(&self.0).expect("a readable journal")
    }
}

fn decided(agent: &PinnedAgent, journal: &Journal) -> Decision {
    let first = decide(agent, calling, &journal.history());
    assert_eq!(first, decide(agent, calling, &journal.history()), "decide is a pure function");
    first
}

fn answer(text: &str) -> Value {
    json!({"message": {"role": "assistant", "content": text}, "finish_reason": "stop"})
}

fn asks(arguments: &[String]) -> Value {
    let calls: Vec<Value> = arguments
        .iter()
        .enumerate()
        .map(|(index, arguments)| {
            json!({"id": format!("call_{index}"), "type": "function",
                   "function": {"name": "calculate", "arguments": arguments}})
        })
        .collect();
    json!({"message": {"role": "assistant", "content": null, "tool_calls": calls}, "finish_reason": "tool_calls"})
}

fn new_steps(decision: &Decision, journal: &Journal) -> Vec<Step> {
    let Decision::Perform(steps) = decision else { return Vec::new() };
    let history = journal.history();
    steps.iter().filter(|step| history.step(&step.id).is_none()).cloned().collect()
}

#[test]
fn a_goal_goes_through_the_model_the_tools_and_the_model_again() {
    let (agent, mut journal) = (agent(20), Journal::default());
    let first = new_steps(&decided(&agent, &journal), &journal);
    assert_eq!(first.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["model:1"]);
    journal.push(&Event::StepStarted(first[0].clone()));
    journal.complete("model:1", asks(&["{\"expression\":\"1+1\"}".into(), "not json".into(), String::new()]));

    let calls = new_steps(&decided(&agent, &journal), &journal);
    let ids: Vec<_> = calls.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["tool:1.1", "tool:1.2", "tool:1.3"]);
    assert_eq!(calls[0].arguments, json!({"expression": "1+1"}));
    assert_eq!(calls[1].arguments, json!("not json"), "what is not JSON is kept for the error to quote");
    assert_eq!(calls[2].arguments, json!({}), "no arguments are none");
    for call in &calls {
        journal.push(&Event::StepStarted(call.clone()));
    }
    journal.complete("tool:1.1", json!({"text": "2"}));
    assert!(new_steps(&decided(&agent, &journal), &journal).is_empty(), "a turn waits for all of its calls");
    let error = RunError::new("invalid_arguments", "mend it");
    journal.push(&Event::StepFailed {
        step: "tool:1.2".into(),
        error,
        usage: Usage::NONE,
        within: Vec::new(),
    });
    journal.complete("tool:1.3", json!({"text": "3"}));

    let next = new_steps(&decided(&agent, &journal), &journal);
    assert_eq!(next[0].id, "model:2");
    journal.push(&Event::StepStarted(next[0].clone()));
    journal.complete("model:2", answer("two"));
    assert_eq!(decided(&agent, &journal), Decision::Finish(Ending::Success(json!("two"))));
}

#[test]
fn a_model_that_fails_or_says_nothing_ends_the_run() {
    let (agent, mut journal) = (agent(20), Journal::default());
    let step = new_steps(&decided(&agent, &journal), &journal).remove(0);
    journal.push(&Event::StepStarted(step));
    let mut silent = journal.clone();

    let error = RunError::new("upstream_error", "down");
    journal.push(&Event::StepFailed {
        step: "model:1".into(),
        error: error.clone(),
        usage: Usage::NONE,
        within: Vec::new(),
    });
    assert_eq!(decided(&agent, &journal), Decision::Finish(Ending::Failure(error)));

    silent.complete("model:1", json!({"message": {"role": "assistant", "content": null}}));
    let Decision::Finish(Ending::Failure(error)) = decided(&agent, &silent) else { panic!("not a failure") };
    assert_eq!(error.code, "empty_answer");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: nh_testkit::cases(256), ..ProptestConfig::default() })]

    /// A model that does as `script` says, one entry a turn: how many tools it
    /// calls and whether each succeeds. An interleaving is drawn by `order`.
    #[test]
    fn every_run_ends_and_no_step_is_started_twice(
        max_steps in 1_u32..6,
        script in prop::collection::vec(prop::collection::vec(any::<bool>(), 0..4), 1..8),
        order in any::<u64>(),
    ) {
        let (agent, mut journal, mut order) = (agent(max_steps), Journal::default(), order);
        let (mut open, mut seen, mut turn): (Vec<Step>, BTreeSet<String>, usize) = Default::default();
        let mut ended = false;
        for _ in 0..200 {
            let decision = decided(&agent, &journal);
            if let Decision::Finish(_) = decision {
                ended = true;
                break;
            }
            for step in new_steps(&decision, &journal) {
                prop_assert!(seen.insert(step.id.clone()), "{} was started twice", step.id);
                journal.push(&Event::StepStarted(step.clone()));
                open.push(step);
            }
            prop_assert!(!open.is_empty(), "nothing is under way and the run has not ended");
            let step = open.remove(usize::try_from(order % open.len() as u64).expect("small"));
            order = order.rotate_left(7) ^ 0x9E37;
            if step.kind == MODEL_STEP {
                let calls = script.get(turn).map_or(0, Vec::len);
                turn += 1;
                let output = if calls == 0 { answer("done") } else { asks(&vec!["{}".to_owned(); calls]) };
                journal.complete(&step.id, output);
            } else {
                prop_assert_eq!(&step.kind, TOOL_STEP);
                if order & 1 == 0 {
                    journal.complete(&step.id, json!({"text": "ok"}));
                } else {
                    let error = RunError::new("timeout", "slow");
                    journal.push(&Event::StepFailed { step: step.id, error, usage: Usage::NONE, within: Vec::new() });
                }
            }
        }
        prop_assert!(ended, "the run did not end");
        prop_assert!(turn <= max_steps as usize, "more model calls than max_steps");
    }
}
