//! OpenRouter (<https://openrouter.ai/docs>). It says its own prices and the
//! cost of each call, sends comment lines while it queues, and may answer 200
//! and then an `error` frame.

/// `google/gemini-2.5-flash:free` asks for a variant of the model before the
/// colon; the listing names few of them.
pub(super) fn variant_of(id: &str) -> Option<&str> {
    let (base, variant) = id.rsplit_once(':')?;
    (!base.is_empty() && !variant.is_empty()).then_some(base)
}
