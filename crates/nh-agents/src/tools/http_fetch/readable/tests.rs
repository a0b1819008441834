use std::time::Instant;

use super::*;

fn text(html: &str) -> String {
    readable(html, None, 10_000).text
}

#[test]
fn blocks_become_lines_and_inlines_do_not() {
    for (html, expected) in [
        ("plain", "plain"),
        ("a<b>b</b>c <i> d</i>", "abc d"),
        ("<p>one</p>\n\n<p>two</p>", "one\n\ntwo"),
        ("<div>one<div>two</div></div>three", "one\ntwo\nthree"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<h2>Title</h2>text", "## Title\n\ntext"),
        ("<h2></h2>text", "text"),
        ("<ol><li>a</li><li></li><li>b</li></ol>", "- a\n- b"),
        ("<table><tr><th>a<th>b</tr><tr><td>1</td><td>2</td></tr></table>", "a | b\n1 | 2"),
        ("<pre>  keep\n   this</pre>after", "  keep\n   this\n\nafter"),
        ("&lt;b&gt; &amp; &euro;&#8364;&nbsp;x &bogus;", "<b> & €€ x &bogus;"),
        ("<img src=x alt='a cat'> sat<img alt=''>", "a cat sat"),
        ("<p>a<!-- comment -->b<![CDATA[c]]></p>", "ab"),
        ("<textarea><b>raw</b></textarea>", "<b>raw</b>"),
    ] {
        assert_eq!(text(html), expected, "{html}");
    }
}

#[test]
fn what_is_not_for_readers_is_left_out() {
    for hidden in [
        "<script>if (a < b) { x('</p>') }</script>",
        "<script src=x />a</script>",
        "<style>p > a { }</style>",
        "<noscript>enable it</noscript>",
        "<svg><title>t</title><svg><text>x</text></svg>y</svg>",
        "<template><p>x</p></template>",
        "<iframe><p>x</iframe>",
    ] {
        assert_eq!(text(&format!("before {hidden}after")), "before after", "{hidden}");
    }
}

#[test]
fn the_title_is_the_first_one() {
    let page = readable("<title> A \n B </title><p>x</p><title>C</title>", None, 100);
    assert_eq!(page.title.as_deref(), Some("A B"));
    assert_eq!(page.text, "x\n\nC", "a second one is shown as browsers do not");
    assert_eq!(readable("<title></title>", None, 100).title, None);
}

#[test]
fn links_are_absolute_and_only_to_the_web() {
    let base = Url::parse("https://example.com/dir/page").expect("valid");
    let text = |html: &str| readable(html, Some(&base), 1_000).text;
    assert_eq!(text("<a href='x'>y</a>!"), "y (https://example.com/dir/x)!");
    assert_eq!(text("<a href='//b.example/'>y</a>"), "y (https://b.example/)");
    for ignored in ["#part", "javascript:alert(1)", "mailto:a@b.c", "http://[", ""] {
        let shown = text(&format!("<a href='{ignored}'>y</a>"));
        assert!(shown == "y" || ignored.is_empty(), "{ignored}: {shown}");
    }
    assert_eq!(text("<a href='x'></a>z"), "z");
    assert_eq!(text(&format!("<a href='{}'>y</a>", "x".repeat(600))), "y");
}

#[test]
fn the_text_is_cut_at_a_character() {
    let page = readable("<p>äöü</p>", None, 2);
    assert_eq!((page.text.as_str(), page.truncated), ("äö", true));
    let page = readable("<p>äöü</p>", None, 3);
    assert_eq!((page.text.as_str(), page.truncated), ("äöü", false));
}

/// Pages that make a tree of them enormous, or walking it slow.
#[test]
fn hostile_pages_take_linear_time() {
    let started = Instant::now();
    let attributes: String = (0..20_000).map(|number| format!(" a{number}")).collect();
    for html in [
        "<div>".repeat(200_000),
        "<ul><li>".repeat(100_000),
        "<blockquote>".repeat(80_000),
        "<table><tr><td>".repeat(60_000),
        (0..50_000).map(|number| format!("<b a={number}>")).collect::<String>() + &"<p>x</p>".repeat(50_000),
        "<a href=x>".repeat(100_000),
        "&".repeat(1_000_000),
        "<".repeat(1_000_000),
        "<!--".repeat(250_000),
        "<svg>".repeat(200_000),
        format!("<x{attributes}>"),
        "<script>".to_owned() + &"</scrip".repeat(100_000),
        "\0".repeat(1_000_000),
    ] {
        let page = readable(&html, None, 20_000);
        assert!(page.text.chars().count() <= 20_000);
    }
    assert!(started.elapsed().as_secs() < 60, "took {:?}", started.elapsed());
}
