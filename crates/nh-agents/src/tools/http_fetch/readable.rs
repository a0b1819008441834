//! HTML to readable text, on html5ever's tokenizer alone.
//!
//! No tree is built: a hostile page of a megabyte can make a tree of
//! gigabytes (unclosed formatting elements are repeated in each paragraph),
//! or one so deep that walking it takes minutes. Tokens take linear time and
//! no memory.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, EndTag, StartTag, Tag, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use url::Url;

use super::Page;

const MAX_TITLE_CHARS: usize = 300;
const MAX_LINK_CHARS: usize = 500;
/// The tokenizer compares each attribute of a tag with all before it; a tag
/// of nothing but attributes is given up after so long.
const READING_MS: u64 = 5_000;
const CHUNK_BYTES: usize = 16_384;

/// At most `max_chars` of text. Links are made absolute by `base`.
pub(crate) fn readable(html: &str, base: Option<&Url>, max_chars: usize) -> Page {
    let writer = Writer { base: base.cloned(), max_chars, ..Writer::default() };
    let tokenizer = Tokenizer::new(Sink(RefCell::new(writer)), TokenizerOpts::default());
    let deadline = Instant::now() + Duration::from_millis(READING_MS);
    let mut rest = html;
    while !rest.is_empty() {
        if tokenizer.sink.0.borrow().is_full() {
            break;
        }
        if Instant::now() >= deadline {
            tokenizer.sink.0.borrow_mut().truncated = true;
            break;
        }
        let (chunk, after) = rest.split_at(rest.floor_char_boundary(CHUNK_BYTES.min(rest.len())));
        let queue = BufferQueue::default();
        queue.push_back(StrTendril::from(chunk));
        // A sink that hands back no scripts is never interrupted.
        let _ = tokenizer.feed(&queue);
        rest = after;
    }
    if rest.is_empty() {
        tokenizer.end();
    }
    tokenizer.sink.0.into_inner().finish()
}

struct Sink(RefCell<Writer>);

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut writer = self.0.borrow_mut();
        match token {
            Token::CharacterTokens(text) => writer.text(&text),
            Token::TagToken(tag) if tag.kind == StartTag => return writer.open(&tag),
            Token::TagToken(tag) if tag.kind == EndTag => writer.close(&tag.name),
            _no_text => {}
        }
        TokenSinkResult::Continue
    }
}

/// What must come before the next word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    #[default]
    None,
    Space,
    Line,
    Paragraph,
}

#[derive(Default)]
struct Writer {
    base: Option<Url>,
    max_chars: usize,
    out: String,
    out_chars: usize,
    gap: Gap,
    /// Put before the next word, such as `- `.
    lead: String,
    title: Option<String>,
    in_title: bool,
    in_pre: bool,
    /// The element whose content is not shown, and how deep in others of its
    /// name we are.
    hidden: Option<(String, usize)>,
    /// Where a link goes, and how much text there was before it.
    link: Option<(String, usize)>,
    truncated: bool,
}

impl Writer {
    fn is_full(&self) -> bool {
        self.truncated
    }

    fn finish(self) -> Page {
        let title = self.title.map(|title| title.split_whitespace().collect::<Vec<_>>().join(" "));
        Page { title: title.filter(|title| !title.is_empty()), text: self.out, truncated: self.truncated }
    }

    fn open(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name: &str = &tag.name;
        if let Some((hidden, depth)) = &mut self.hidden {
            if hidden == name && !tag.self_closing {
                *depth += 1;
            }
            return raw_content(name);
        }
        self.need(gap_around(name));
        match name {
            "script" | "style" | "iframe" | "noframes" | "noembed" | "noscript" | "svg" | "template"
                if !tag.self_closing || raw_kind(name).is_some() =>
            {
                self.hidden = Some((name.to_owned(), 0));
            }
            "title" => self.in_title = self.title.is_none(),
            "pre" => self.in_pre = true,
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.lead = "#".repeat(name[1..].parse().unwrap_or(1)) + " ";
            }
            "li" => self.lead = "- ".to_owned(),
            "td" | "th" if self.gap <= Gap::Space && !self.out.is_empty() => {
                self.gap = Gap::Space;
                self.lead = "| ".to_owned();
            }
            "a" => self.link = self.link_target(tag).map(|target| (target, self.out.len())),
            "img" => {
                if let Some(alternative) = attribute(tag, "alt") {
                    self.text(alternative);
                }
            }
            _plain => {}
        }
        raw_content(name)
    }

    fn close(&mut self, name: &str) {
        if let Some((hidden, depth)) = &mut self.hidden {
            if hidden == name {
                match depth.checked_sub(1) {
                    Some(outer) => *depth = outer,
                    None => self.hidden = None,
                }
            }
            return;
        }
        match name {
            "title" => self.in_title = false,
            "pre" => self.in_pre = false,
            "li" | "td" | "th" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => self.lead.clear(),
            "a" => {
                if let Some((target, start)) = self.link.take()
                    && self.out.len() > start
                {
                    self.push(&format!(" ({target})"));
                }
            }
            _plain => {}
        }
        self.need(gap_around(name));
    }

    fn text(&mut self, text: &str) {
        if self.hidden.is_some() || text.is_empty() {
            return;
        }
        if self.in_title {
            let title = self.title.get_or_insert_default();
            let room = MAX_TITLE_CHARS.saturating_sub(title.chars().count());
            title.extend(text.chars().take(room));
            return;
        }
        if self.in_pre {
            self.write(text);
            return;
        }
        if text.starts_with(char::is_whitespace) {
            self.need(Gap::Space);
        }
        for word in text.split_whitespace() {
            self.write(word);
            self.need(Gap::Space);
        }
        if !text.ends_with(char::is_whitespace) && self.gap == Gap::Space {
            self.gap = Gap::None;
        }
    }

    fn need(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    /// The gap that is due, what leads the line, then `text`.
    fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let gap = std::mem::take(&mut self.gap);
        if !self.out.is_empty() {
            self.push(match gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Line => "\n",
                Gap::Paragraph => "\n\n",
            });
        }
        let lead = std::mem::take(&mut self.lead);
        self.push(&lead);
        self.push(text);
    }

    fn push(&mut self, text: &str) {
        if self.truncated {
            return;
        }
        let (kept, cut) = super::cut(text, self.max_chars - self.out_chars);
        self.out.push_str(kept);
        self.out_chars += kept.chars().count();
        self.truncated = cut;
    }

    /// Only what could be fetched.
    fn link_target(&self, tag: &Tag) -> Option<String> {
        let given = attribute(tag, "href").filter(|target| !target.starts_with('#'))?;
        let target = match &self.base {
            Some(base) => base.join(given).ok()?,
            None => Url::parse(given).ok()?,
        };
        (matches!(target.scheme(), "http" | "https") && target.as_str().len() <= MAX_LINK_CHARS)
            .then(|| target.into())
    }
}

fn attribute<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    tag.attrs.iter().find(|attribute| &*attribute.name.local == name).map(|attribute| &*attribute.value)
}

fn gap_around(name: &str) -> Gap {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "dl" | "table" | "blockquote"
        | "pre" | "figure" | "hr" => Gap::Paragraph,
        "address" | "article" | "aside" | "body" | "br" | "caption" | "dd" | "details" | "div" | "dt"
        | "fieldset" | "figcaption" | "footer" | "form" | "header" | "legend" | "li" | "main" | "nav"
        | "option" | "section" | "summary" | "tr" => Gap::Line,
        "td" | "th" => Gap::Space,
        _inline => Gap::None,
    }
}

/// What the tree builder would tell the tokenizer (HTML standard, "parsing
/// elements that contain only text").
fn raw_content(name: &str) -> TokenSinkResult<()> {
    raw_kind(name).map_or(TokenSinkResult::Continue, TokenSinkResult::RawData)
}

fn raw_kind(name: &str) -> Option<RawKind> {
    match name {
        "title" | "textarea" => Some(RawKind::Rcdata),
        "style" | "iframe" | "noframes" | "noembed" => Some(RawKind::Rawtext),
        "script" => Some(RawKind::ScriptData),
        _normal => None,
    }
}

#[cfg(test)]
mod tests;
