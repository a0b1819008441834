//! The vectors are those of sentence-transformers (`reference/make.py`).

use nh_minilm::{DIMENSIONS, MAX_TOKENS};
use serde::Deserialize;

use crate::{MODEL, cosine, furthest};

#[derive(Deserialize)]
struct Reference {
    texts: Vec<Known>,
}

#[derive(Deserialize)]
struct Known {
    text: String,
    tokens: usize,
    vector: Vec<f32>,
}

fn known() -> Vec<Known> {
    let reference: Reference =
        serde_json::from_str(include_str!("../reference/vectors.json")).expect("as make.py wrote it");
    reference.texts
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    for known in known() {
        let found = &MODEL.embed(&[&known.text]).unwrap()[0];
        assert_eq!(found.vector.len(), DIMENSIONS);
        assert_eq!(found.tokens, known.tokens, "{:?}", known.text);
        let far = 1.0 - cosine(&found.vector, &known.vector);
        assert!(far < 1e-6, "{far} from {:?}", known.text);
        assert!(furthest(&found.vector, &known.vector) < 1e-5, "{:?}", known.text);
        let length: f32 = found.vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}

#[test]
fn a_vector_does_not_depend_on_its_batch() {
    let known = known();
    let texts: Vec<&str> = known.iter().map(|known| known.text.as_str()).collect();
    let alone: Vec<_> = texts.iter().map(|text| MODEL.embed(&[text]).unwrap().remove(0)).collect();
    assert_eq!(MODEL.embed(&texts).unwrap(), alone, "to the last bit");
    let mut back = MODEL.embed(&texts.iter().rev().copied().collect::<Vec<_>>()).unwrap();
    back.reverse();
    assert_eq!(back, alone);
    let many = vec![texts[1]; 100];
    assert!(MODEL.embed(&many).unwrap().iter().all(|one| *one == alone[1]));
    assert_eq!(MODEL.embed(&[]).unwrap(), []);
}

#[test]
fn what_is_beyond_the_last_token_is_not_read() {
    let words = |count: usize| "disk ".repeat(count);
    let whole = MODEL.embed(&[&words(MAX_TOKENS - 2)]).unwrap().remove(0);
    assert_eq!(whole.tokens, MAX_TOKENS);
    for count in [MAX_TOKENS - 1, 1000, 10_000] {
        assert_eq!(MODEL.count_tokens(&words(count)).unwrap(), count + 2);
        assert_eq!(MODEL.embed(&[&words(count)]).unwrap()[0], whole, "{count} words");
    }
    let fewer = MODEL.embed(&[&words(MAX_TOKENS - 3)]).unwrap().remove(0);
    assert_eq!(fewer.tokens, MAX_TOKENS - 1);
    assert_ne!(fewer, whole);
}

#[test]
fn texts_that_mean_alike_are_near() {
    let texts = [
        "How do I reset my password?",
        "I forgot my login and want a new one",
        "The invoice for March has the wrong address",
    ];
    let found = MODEL.embed(&texts).unwrap();
    let near = |one: usize, other: usize| cosine(&found[one].vector, &found[other].vector);
    assert!(near(0, 1) > near(0, 2) + 0.2 && near(0, 1) > near(1, 2) + 0.2);
}

#[test]
fn many_threads_share_a_model() {
    let known = known();
    std::thread::scope(|scope| {
        for one in &known {
            scope.spawn(|| {
                let found = MODEL.embed(&[&one.text]).unwrap().remove(0);
                assert!(furthest(&found.vector, &one.vector) < 1e-5);
            });
        }
    });
}
