//! Generators of flows and patterns, as trees. Spans are all zero: trees are compared without them.

use std::time::Duration;

use flowproof::flow::ast::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

/// A word of the language with no place in a text.
pub(crate) fn name(text: impl Into<String>) -> Name {
    Name { text: text.into(), span: Span::default() }
}

/// A pattern with no place in a text.
pub(crate) fn pattern_of(kind: PatternKind) -> Pattern {
    Pattern { kind, span: Span::default() }
}

/// A text as readable and as nasty as strings get.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,6}",
        any::<String>(),
        select(vec![
            "",
            " ",
            "#",
            "\"",
            "`",
            "\\",
            "\n",
            "\u{0}\u{1b}[31m",
            "{\"a\": 1}",
            "/x y#z/",
            "[A-1]",
            "…",
            "\u{202e}"
        ])
        .prop_map(str::to_owned),
    ]
}

fn text(text: String) -> PatternKind {
    // What cannot stand between backticks is written in quotes.
    PatternKind::String { text, backticks: false }
}

fn string_literal() -> impl Strategy<Value = PatternKind> {
    (any_text(), any::<bool>()).prop_map(|(text, wanted)| {
        let backticks = wanted && !text.contains(['`', '\n']);
        PatternKind::String { text, backticks }
    })
}

fn number() -> impl Strategy<Value = serde_json::Number> {
    prop_oneof![
        any::<i64>().prop_map(serde_json::Number::from),
        (-5_i64..5).prop_map(serde_json::Number::from),
        any::<u64>().prop_map(serde_json::Number::from),
        any::<f64>().prop_filter_map("JSON has no such number", serde_json::Number::from_f64),
        (-1000_i32..1000).prop_filter_map("finite", |n| serde_json::Number::from_f64(f64::from(n) / 8.0)),
    ]
}

fn constant() -> impl Strategy<Value = PatternKind> {
    select(vec![Constant::Null, Constant::True, Constant::False]).prop_map(PatternKind::Constant)
}

fn type_word() -> impl Strategy<Value = PatternKind> {
    use TypeWord::*;
    select(vec![Array, Base64, Boolean, Integer, Number, Object, String, Timestamp, Uuid])
        .prop_map(PatternKind::Type)
}

/// Regexes for which a text can be made.
fn regex() -> impl Strategy<Value = PatternKind> {
    let sources = vec![
        "",
        "^$",
        "^[a-f0-9]{4}$",
        "a|b",
        "x+y*z?",
        "\\d{2,3}",
        "[^\\x00-\\x1f]{1,3}",
        "(?i)ab",
        "\\bfoo\\b",
        "^(GET|POST) /.*$",
        "^https?://[a-z.]+/$",
        "#",
        "\\\\",
        "[\"`]",
        "^(a(b|c)){1,2}$",
        ".",
    ];
    select(sources).prop_map(|source| PatternKind::Regex(source.to_owned()))
}

fn range() -> impl Strategy<Value = PatternKind> {
    (proptest::option::of(number()), proptest::option::of(number())).prop_filter_map(
        "an end",
        |(low, high)| {
            let as_number = |number: &serde_json::Number| number.as_f64().unwrap_or_default();
            let (low, high) = match (low, high) {
                (Some(low), Some(high)) if as_number(&low) > as_number(&high) => (Some(high), Some(low)),
                (None, None) => return None,
                ends => ends,
            };
            Some(PatternKind::Range { low, high })
        },
    )
}

const VARIABLES: [&str; 7] = ["a", "alice.port", "token", "x_1", "x-1", "größe", "_"];

fn variable_name() -> impl Strategy<Value = Name> {
    select(VARIABLES.to_vec()).prop_map(name)
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        4 => any_text().prop_map(|text| Key::Text(text, Span::default())),
        1 => variable_name().prop_map(Key::Variable),
    ]
}

fn comment() -> impl Strategy<Value = String> {
    select(vec!["", " why", " \"{[(`", " # twice", "no blank", " päth /x/ -> y", " }"])
        .prop_map(str::to_owned)
}

/// Any pattern that can be written, whether it makes sense or not.
pub(crate) fn any_pattern() -> impl Strategy<Value = Pattern> {
    let leaf = prop_oneof![
        Just(PatternKind::Any),
        Just(PatternKind::Absent),
        constant(),
        number().prop_map(PatternKind::Number),
        string_literal(),
        type_word(),
        regex(),
        range(),
        variable_name().prop_map(|name| PatternKind::Variable { name, is: None }),
    ];
    leaf.prop_map(pattern_of).prop_recursive(4, 24, 4, |inner| {
        let several = || vec(inner.clone(), 2..4);
        let member = (vec(comment().prop_map(Trivia::Comment), 0..2), key(), inner.clone());
        let member = (any::<bool>(), member).prop_map(|(commented, (leading, key, value))| Member {
            leading: if commented { leading } else { Vec::new() },
            key,
            value,
        });
        prop_oneof![
            several().prop_map(PatternKind::OneOf),
            several().prop_map(PatternKind::AllOf),
            several().prop_map(PatternKind::Join),
            (inner.clone(), 0_u32..5).prop_map(|(part, times)| PatternKind::Times(Box::new(part), times)),
            inner.clone().prop_map(|part| PatternKind::Not(Box::new(part))),
            (variable_name(), inner.clone())
                .prop_map(|(name, is)| PatternKind::Variable { name, is: Some(Box::new(is)) }),
            (vec(inner.clone(), 0..4), any::<bool>(), any::<bool>())
                .prop_map(|(items, open, unordered)| PatternKind::Array { items, open, unordered }),
            (vec(member, 0..4), any::<bool>())
                .prop_map(|(members, exactly)| PatternKind::Object { members, exactly }),
        ]
        .prop_map(pattern_of)
    })
}

/// The variables that [`sendable_pattern`] finds bound to begin with, all to texts.
pub(crate) const BOUND: [(&str, &str); 2] = [("token", "t-0ken"), ("other", "ötherwise")];

/// A pattern from which a message can be made. Its variables are those of [`BOUND`] and some that it binds itself.
pub(crate) fn sendable_pattern() -> impl Strategy<Value = Pattern> {
    let bound = || select(BOUND.to_vec()).prop_map(|(text, _)| name(text));
    let fresh = || select(vec!["p", "q", "r"]).prop_map(name);
    let expression = vec(
        prop_oneof![
            any_text().prop_map(text),
            bound().prop_map(|name| PatternKind::Variable { name, is: None }),
            (any_text().prop_map(text), 0_u32..4)
                .prop_map(|(part, times)| PatternKind::Times(Box::new(pattern_of(part)), times)),
        ]
        .prop_map(pattern_of),
        2..4,
    );
    let leaf = prop_oneof![
        Just(PatternKind::Any),
        constant(),
        number().prop_map(PatternKind::Number),
        string_literal(),
        type_word(),
        regex(),
        range(),
        expression.prop_map(PatternKind::Join),
        prop_oneof![bound(), fresh()].prop_map(|name| PatternKind::Variable { name, is: None }),
    ];
    leaf.prop_map(pattern_of).prop_recursive(4, 24, 4, move |inner| {
        let members = || btree_map("[a-c]{1,2}|with blank|0", inner.clone(), 0..4);
        let named_by_variable = proptest::option::of((bound(), inner.clone()));
        let nothing = Just(pattern_of(PatternKind::Absent));
        let absent = proptest::option::of(prop_oneof![
            nothing.clone(),
            (nothing, inner.clone())
                .prop_map(|(nothing, other)| pattern_of(PatternKind::OneOf(vec![nothing, other]))),
        ]);
        let object = (members(), named_by_variable, absent, any::<bool>()).prop_map(
            |(members, by_variable, absent, exactly)| {
                let member = |key, value| Member { leading: Vec::new(), key, value };
                let mut all: Vec<Member> = Vec::new();
                all.extend(
                    members.into_iter().map(|(key, value)| member(Key::Text(key, Span::default()), value)),
                );
                all.extend(by_variable.map(|(name, value)| member(Key::Variable(name), value)));
                all.extend(absent.map(|value| member(Key::Text("gone".to_owned(), Span::default()), value)));
                PatternKind::Object { members: all, exactly }
            },
        );
        let fresh = select(vec!["p", "q", "r"]).prop_map(name);
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(PatternKind::OneOf),
            (fresh, inner.clone())
                .prop_map(|(name, is)| PatternKind::Variable { name, is: Some(Box::new(is)) }),
            (vec(inner.clone(), 0..4), any::<bool>(), any::<bool>())
                .prop_map(|(items, open, unordered)| PatternKind::Array { items, open, unordered }),
            object,
        ]
        .prop_map(pattern_of)
    })
}

/// A string expression: literals, variables, `+` and `*`.
fn expression() -> BoxedStrategy<Pattern> {
    let part = prop_oneof![
        string_literal(),
        variable_name().prop_map(|name| PatternKind::Variable { name, is: None }),
        (string_literal(), 0_u32..9)
            .prop_map(|(part, times)| PatternKind::Times(Box::new(pattern_of(part)), times)),
    ]
    .prop_map(pattern_of)
    .boxed();
    prop_oneof![2 => part.clone(), 1 => vec(part, 2..4).prop_map(|parts| pattern_of(PatternKind::Join(parts)))].boxed()
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 1..5).prop_map(Bytes::Hex), any_pattern().prop_map(Bytes::Expression)]
}

fn object_pattern() -> BoxedStrategy<Pattern> {
    (key(), any_pattern())
        .prop_map(|(key, value)| {
            pattern_of(PatternKind::Object {
                members: vec![Member { leading: Vec::new(), key, value }],
                exactly: false,
            })
        })
        .boxed()
}

fn payload() -> BoxedStrategy<Payload> {
    let text_or_none = || proptest::option::of(expression());
    let leaf = prop_oneof![
        4 => any_pattern().prop_map(Payload::Json),
        1 => any_pattern().prop_map(Payload::Text),
        1 => bytes().prop_map(Payload::Binary),
        1 => bytes().prop_map(Payload::Raw),
        1 => vec(any_pattern(), 0..3).prop_map(Payload::Fragments),
        1 => text_or_none().prop_map(Payload::Ping),
        1 => text_or_none().prop_map(Payload::Pong),
    ];
    leaf.prop_recursive(2, 4, 1, |inner| {
        let rest = || (proptest::option::of(object_pattern()), proptest::option::of(inner.clone()));
        let target = prop_oneof![
            select(vec!["/", "/api", "/a|b#c?x=1", "/ü", "", "/with blank", "no-slash"])
                .prop_map(|target| pattern_of(text(target.to_owned()))),
            expression(),
        ];
        let status = prop_oneof![
            (100_i64..600).prop_map(|status| PatternKind::Number(status.into())),
            range(),
            vec((400_i64..600).prop_map(|status| pattern_of(PatternKind::Number(status.into()))), 2..3)
                .prop_map(PatternKind::OneOf),
        ];
        let method = select(vec!["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
        prop_oneof![
            2 => inner.clone(),
            1 => (method, target, rest()).prop_map(|(method, target, (headers, body))| Payload::HttpRequest {
                method: method.to_owned(),
                target,
                headers,
                body: body.map(Box::new),
            }),
            1 => (status, rest()).prop_map(|(status, (headers, body))| Payload::HttpResponse {
                status: pattern_of(status),
                headers,
                body: body.map(Box::new),
            }),
        ]
    })
    .boxed()
}

fn participant() -> impl Strategy<Value = Name> {
    select(vec![
        "alice",
        "bob",
        "server",
        "wait",
        "settle",
        "either",
        "crowd-1",
        "_x",
        "élodie",
        "alice.punch",
        "text",
    ])
    .prop_map(name)
}

fn cites() -> impl Strategy<Value = Vec<Name>> {
    vec(select(vec!["HANGOUT-CHG-1", "A-1", "Z", "WIRE-2-x"]).prop_map(name), 0..3)
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        select(vec![0_u64, 1, 500, 999, 1000, 1001, 1500, 60_000, 90_000, 120_000, 61_250]),
        0_u64..100_000_000
    ]
    .prop_map(Duration::from_millis)
}

fn close_spec() -> impl Strategy<Value = CloseSpec> {
    let code = prop_oneof![
        (1000_i64..5000).prop_map(|code| PatternKind::Number(code.into())),
        Just(PatternKind::Any),
        range(),
    ];
    let reason = any_text().prop_map(|reason| pattern_of(text(reason)));
    proptest::option::of((code.prop_map(pattern_of), proptest::option::of(reason))).prop_map(|close| {
        match close {
            None => CloseSpec::default(),
            Some((code, reason)) => CloseSpec { code: Some(code), reason },
        }
    })
}

fn connect_options() -> impl Strategy<Value = ConnectOptions> {
    let sending = proptest::option::weighted(0.2, payload());
    let some = proptest::option::of;
    (some(expression()), some(object_pattern()), some(object_pattern()), some(expression()), sending)
        .prop_map(|(path, query, headers, subprotocol, sending)| ConnectOptions {
            path,
            query,
            headers,
            subprotocol,
            sending,
        })
}

fn plain_step() -> impl Strategy<Value = StepKind> {
    let who = participant;
    let some = proptest::option::of::<proptest::strategy::BoxedStrategy<Pattern>>;
    prop_oneof![
        6 => (who(), who(), payload()).prop_map(|(from, to, payload)| StepKind::Arrow { from, to, payload }),
        2 => (who(), proptest::option::of(who()), connect_options())
            .prop_map(|(who, to, options)| StepKind::Connects { who, to, options }),
        1 => who().prop_map(|who| StepKind::Opens { who }),
        1 => (who(), close_spec()).prop_map(|(who, close)| StepKind::Disconnects { who, close }),
        1 => who().prop_map(|who| StepKind::Vanishes { who }),
        1 => who().prop_map(|who| StepKind::Stalls { who }),
        1 => who().prop_map(|who| StepKind::Resumes { who }),
        1 => who().prop_map(|who| StepKind::Stops { who }),
        1 => (who(), who()).prop_map(|(who, whom)| StepKind::Knows { who, whom }),
        1 => (who(), who()).prop_map(|(who, whom)| StepKind::Greets { who, whom }),
        1 => (who(), who(), close_spec()).prop_map(|(who, whom, close)| StepKind::Closes { who, whom, close }),
        1 => (who(), who()).prop_map(|(who, whom)| StepKind::Drops { who, whom }),
        1 => (who(), who(), some(any_pattern().boxed()))
            .prop_map(|(who, whom, status)| StepKind::Refuses { who, whom, status }),
        1 => duration().prop_map(StepKind::Wait),
        1 => (vec(who(), 1..3), proptest::option::of(duration()))
            .prop_map(|(who, duration)| StepKind::Quiet { who, duration }),
        1 => Just(StepKind::Settle),
        1 => Just(StepKind::Served),
        1 => (variable_name(), any_pattern()).prop_map(|(name, value)| StepKind::Let { name, value }),
        1 => (who(), any_text(), some(any_pattern().boxed()))
            .prop_map(|(who, stimulus, with)| StepKind::Does { who, stimulus, with }),
    ]
}

fn leading() -> impl Strategy<Value = Vec<Trivia>> {
    // A run of blank lines is one, so no two stand together.
    vec((any::<bool>(), comment()), 0..2).prop_map(|comments| {
        let mut trivia = Vec::new();
        for (blank, text) in comments {
            if blank {
                trivia.push(Trivia::Blank);
            }
            trivia.push(Trivia::Comment(text));
        }
        trivia
    })
}

/// Comments lose a mark that begins them and blanks that end them, so these are what a reader keeps.
fn behind() -> impl Strategy<Value = Option<String>> {
    proptest::option::weighted(0.3, comment())
}

fn step_of(kind: impl Strategy<Value = StepKind> + 'static) -> BoxedStrategy<Step> {
    (leading(), kind, cites(), behind())
        .prop_map(|(leading, kind, cites, comment)| Step {
            leading,
            kind,
            cites,
            comment,
            span: Span::default(),
        })
        .boxed()
}

fn step() -> impl Strategy<Value = Step> {
    step_of(plain_step()).prop_recursive(3, 12, 3, |inner| {
        let block =
            || (vec(inner.clone(), 0..3), leading()).prop_map(|(steps, trailing)| Block { steps, trailing });
        let branch = (any::<bool>(), cites(), behind(), block())
            .prop_map(|(tolerated, cites, comment, block)| Branch { tolerated, cites, comment, block });
        let first =
            block().prop_map(|block| Branch { tolerated: false, cites: Vec::new(), comment: None, block });
        let either = (first, vec(branch, 0..3)).prop_map(|(first, mut others)| {
            others.insert(0, first);
            StepKind::Either(others)
        });
        step_of(prop_oneof![
            (duration(), block()).prop_map(|(limit, block)| StepKind::Within { limit, block }),
            (duration(), duration(), 0_u32..9, block()).prop_map(|(shortest, longest, times, block)| {
                StepKind::Every { shortest, longest, times, block }
            }),
            block().prop_map(StepKind::AnyOrder),
            block().prop_map(StepKind::Optionally),
            (0_u32..9, proptest::option::of(variable_name()), block())
                .prop_map(|(times, counter, block)| StepKind::Repeat { times, counter, block }),
            either,
        ])
    })
}

fn examples() -> impl Strategy<Value = HeaderItem> {
    let columns = vec(variable_name(), 1..4);
    columns.prop_flat_map(|columns| {
        let comments = vec(comment().prop_map(Trivia::Comment), 0..2);
        let row =
            (comments, vec(payload(), columns.len()), behind()).prop_map(|(leading, cells, comment)| {
                ExampleRow { leading, cells, comment, span: Span::default() }
            });
        vec(row, 1..4).prop_map(move |rows| HeaderItem::Examples(Examples { columns: columns.clone(), rows }))
    })
}

fn header_item() -> impl Strategy<Value = HeaderItem> {
    let words = || {
        vec(
            prop_oneof![select(vec!["v1", "admin", "a-b"]).prop_map(str::to_owned), any_text()]
                .prop_map(name),
            1..3,
        )
    };
    let some_cites = || vec(select(vec!["HANGOUT-CHG-1", "A-1"]).prop_map(name), 1..3);
    let member = prop_oneof![
        3 => (participant(), proptest::option::of(participant()), proptest::option::of(1_u32..200))
            .prop_map(|(name, role, count)| CastMember { name, role, count, socket_of: None }),
        1 => (participant(), participant())
            .prop_map(|(name, owner)| CastMember { name, role: None, count: None, socket_of: Some(owner) }),
    ];
    prop_oneof![
        Just(HeaderItem::Protocol(name("hangout"))),
        vec(member, 1..4).prop_map(HeaderItem::Cast),
        words().prop_map(HeaderItem::Editions),
        words().prop_map(HeaderItem::Needs),
        vec(participant(), 1..3).prop_map(HeaderItem::Tags),
        some_cites().prop_map(HeaderItem::About),
        some_cites().prop_map(HeaderItem::Unexpected),
        payload().prop_map(HeaderItem::Ignoring),
        examples(),
    ]
}

/// Any flow that can be written, whether it makes sense or not.
pub(crate) fn any_flow() -> impl Strategy<Value = Flow> {
    let line = (leading(), header_item(), behind()).prop_map(|(leading, item, comment)| HeaderLine {
        leading,
        item,
        comment,
        span: Span::default(),
    });
    (vec(line, 0..4), vec(step(), 0..5), leading()).prop_map(|(header, steps, trailing)| Flow {
        header,
        steps,
        trailing,
    })
}
