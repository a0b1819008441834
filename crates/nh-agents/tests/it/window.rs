//! What is left out of a prompt that is too long.

use nh_agents::agent::messages::Prompt;
use nh_agents::agent::window::{LeftOut, fit, prompt_tokens_within, tokens};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn text(role: &str, bytes: usize) -> Value {
    json!({"role": role, "content": "x".repeat(bytes)})
}

fn turn(outputs: &[usize]) -> Vec<Value> {
    let calls: Vec<Value> = (0..outputs.len())
        .map(|index| json!({"id": index.to_string(), "type": "function", "function": {"name": "t", "arguments": "{}"}}))
        .collect();
    let asks = json!({"role": "assistant", "content": null, "tool_calls": calls});
    let outputs = outputs.iter().enumerate().map(|(index, bytes)| {
        json!({"role": "tool", "tool_call_id": index.to_string(), "content": "é".repeat(bytes / 2)})
    });
    std::iter::once(asks).chain(outputs).collect()
}

fn prompt(conversation: &[usize], given: &[usize], turns: &[Vec<usize>]) -> Prompt {
    Prompt {
        recalled: None,
        system: "Be brief.".to_owned(),
        conversation: conversation.iter().map(|bytes| text("user", *bytes)).collect(),
        given: given.iter().map(|bytes| text("user", *bytes)).collect(),
        turns: turns.iter().map(|outputs| turn(outputs)).collect(),
        rest: Map::new(),
    }
}

#[test]
fn what_fits_stays_whole() {
    let mut whole = prompt(&[100], &[100], &[vec![100]]);
    assert_eq!(fit(&mut whole, 10_000), LeftOut::default());
    assert_eq!(whole.system, "Be brief.");
}

#[test]
fn a_window_is_for_the_answer_too() {
    assert_eq!(prompt_tokens_within(100_000), 100_000 - 10_000 - 4_096);
    assert_eq!(prompt_tokens_within(1_000), 650);
    assert_eq!(prompt_tokens_within(0), 0);
}

#[test]
fn the_longest_outputs_of_the_last_turn_lose_their_middle() {
    let mut long = prompt(&[4_000], &[400], &[vec![4_000], vec![400, 400_000]]);
    let left_out = fit(&mut long, 20_000);
    assert_eq!(left_out.messages, 3, "the conversation, and the turn of two");
    assert!(left_out.bytes > 300_000);
    assert!(tokens(&long) <= 20_100, "{}", tokens(&long));
    let last = &long.turns[0];
    assert_eq!(last[1]["content"].as_str().map(str::len), Some(400), "the short one stays");
    let cut = last[2]["content"].as_str().unwrap();
    assert!(cut.contains(&format!("[… {} bytes left out", left_out.bytes)), "{}", &cut[..100]);
}

#[test]
fn the_outputs_of_a_call_go_with_it() {
    let mut long = prompt(&[], &[], &[]);
    long.conversation = [turn(&[4_000, 400]), vec![text("assistant", 400)]].concat();
    long.given = vec![text("user", 40)];
    let left_out = fit(&mut long, 500);
    assert_eq!((left_out.messages, long.conversation.len()), (3, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: nh_testkit::cases(256), ..ProptestConfig::default() })]

    /// However long a prompt is: the goal and the last turn stay, a turn goes
    /// whole or stays whole, and what can fit does.
    #[test]
    fn any_prompt_keeps_what_it_must(
        conversation in prop::collection::vec(0_usize..50_000, 0..5),
        given in prop::collection::vec(0_usize..20_000, 1..4),
        turns in prop::collection::vec(prop::collection::vec(0_usize..90_000, 0..3), 0..5),
        most in 500_u64..40_000,
    ) {
        let mut fitted = prompt(&conversation, &given, &turns);
        let before = fitted.clone();
        let left_out = fit(&mut fitted, most);
        prop_assert_eq!(fitted.given.last(), before.given.last());
        prop_assert_eq!(fitted.turns.last().map(Vec::len), before.turns.last().map(Vec::len));
        for turn in fitted.turns.iter().rev().skip(1) {
            prop_assert!(before.turns.contains(turn));
        }
        let count = |prompt: &Prompt| {
            prompt.conversation.len() + prompt.given.len() + prompt.turns.iter().map(Vec::len).sum::<usize>()
        };
        prop_assert_eq!(count(&before) - count(&fitted), left_out.messages);
        if tokens(&before) <= most {
            prop_assert!(left_out.is_nothing());
        }
        // What must stay: the goal, the note, and the least of each output.
        let goal = given.last().copied().unwrap_or_default() / 4;
        let outputs = turns.last().map_or(0, Vec::len) * 400;
        if most as usize > goal + outputs + 300 {
            prop_assert!(tokens(&fitted) <= most + 100 + outputs as u64, "{} > {most}", tokens(&fitted));
        }
    }
}
