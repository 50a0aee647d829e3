//! The two readings of a pattern: whatever it generates, it matches; and what differs from it at a fixed place is
//! told with that place.

use flowproof::flow::ast::{Key, Pattern, PatternKind};
use flowproof::flow::format::pattern_text;
use flowproof::flow::parse_pattern;
use flowproof::flow::resolve::ungeneratable;
use flowproof::pattern::{Bindings, Bound, Ungeneratable, generate, json, matches};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::generated::{BOUND, sendable_pattern};

fn bindings() -> Bindings {
    let mut bindings = Bindings::default();
    for (name, text) in BOUND {
        bindings.bind(name, Bound::Value(Value::from(text)));
    }
    bindings
}

/// A place at which exactly one value fits: its JSON path, and the steps that lead there.
#[derive(Clone, Debug)]
struct Place {
    path: String,
    pointer: Vec<Hop>,
}

#[derive(Clone, Debug)]
enum Hop {
    Member(String),
    Index(usize),
}

/// The fixed places of a pattern, in the order in which they are looked at. Alternatives and unordered arrays leave
/// a choice, so what is inside them is not fixed.
fn fixed_places(pattern: &Pattern, here: &Place, bound: &mut Vec<String>, places: &mut Vec<Place>) {
    match &pattern.kind {
        PatternKind::Constant(_)
        | PatternKind::Number(_)
        | PatternKind::String { .. }
        | PatternKind::Join(_)
        | PatternKind::Times(..) => places.push(here.clone()),
        PatternKind::Variable { name, .. } if bound.contains(&name.text) => places.push(here.clone()),
        PatternKind::Variable { name, is } => {
            if let Some(is) = is {
                fixed_places(is, here, bound, places);
            }
            bound.push(name.text.clone());
        }
        PatternKind::Array { items, unordered: false, .. } => {
            for (index, item) in items.iter().enumerate() {
                let mut inside = here.clone();
                inside.path.push_str(&format!("[{index}]"));
                inside.pointer.push(Hop::Index(index));
                fixed_places(item, &inside, bound, places);
            }
        }
        PatternKind::Object { members, .. } => {
            for member in members {
                let key = match &member.key {
                    Key::Text(text, _) => text.clone(),
                    Key::Variable(name) => {
                        let known = BOUND.iter().find(|(known, _)| *known == name.text);
                        known.expect("keys are among the bound variables").1.to_owned()
                    }
                };
                let mut inside = here.clone();
                // Names that could be mistaken stand in quotes.
                let plain = key.starts_with(|c: char| c.is_ascii_alphabetic())
                    && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
                inside.path.push_str(&if plain {
                    format!(".{key}")
                } else {
                    format!("[{}]", Value::from(key.as_str()))
                });
                inside.pointer.push(Hop::Member(key));
                fixed_places(&member.value, &inside, bound, places);
            }
        }
        // Variables inside a choice may or may not be bound by it.
        PatternKind::OneOf(parts) | PatternKind::Array { items: parts, unordered: true, .. } => {
            let mut ignored = Vec::new();
            parts.iter().for_each(|part| variables(part, &mut ignored));
            bound.extend(ignored.iter().map(|name| format!("?{name}")));
        }
        _ => {}
    }
}

fn variables(pattern: &Pattern, names: &mut Vec<String>) {
    match &pattern.kind {
        PatternKind::Variable { name, is } => {
            names.push(name.text.clone());
            is.iter().for_each(|is| variables(is, names));
        }
        PatternKind::OneOf(parts) | PatternKind::AllOf(parts) | PatternKind::Array { items: parts, .. } => {
            parts.iter().for_each(|part| variables(part, names));
        }
        PatternKind::Object { members, .. } => {
            members.iter().for_each(|member| variables(&member.value, names))
        }
        _ => {}
    }
}

/// The value at a place, replaced by one that is of another type than any fixed value.
fn alter(value: &mut Value, pointer: &[Hop]) -> Option<()> {
    let mut inside = value;
    for hop in pointer {
        inside = match hop {
            Hop::Member(name) => inside.get_mut(name)?,
            Hop::Index(index) => inside.get_mut(index)?,
        };
    }
    *inside = json!([inside.take(), "altered"]);
    Some(())
}

/// Makes a value of a pattern and looks at it through the same pattern.
fn check_duality(pattern: &Pattern, seed: u64) -> Result<Value, TestCaseError> {
    let shown = pattern_text(pattern);
    prop_assert_eq!(
        ungeneratable(pattern),
        [],
        "the checker takes {} for a pattern that cannot be sent",
        shown
    );
    let mut made = bindings();
    let value = generate(pattern, &mut made, &mut fastrand::Rng::with_seed(seed));
    prop_assert!(value.is_ok(), "{shown}: {value:?}");
    let value = value.expect("is ok");
    let seen = matches(pattern, &value, &bindings());
    prop_assert!(seen.is_ok(), "{shown} made {value} and does not match it: {seen:?}");
    prop_assert_eq!(seen.expect("is ok"), made, "{} made {} and binds other values reading it", shown, value);
    // What travels is text.
    let travelled: Value = serde_json::from_str(&value.to_string()).expect("what was written can be read");
    prop_assert!(
        matches(pattern, &travelled, &bindings()).is_ok(),
        "{shown}: {value} does not survive the wire"
    );
    Ok(value)
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn a_pattern_matches_what_it_generates(pattern in sendable_pattern(), seed in any::<u64>()) {
        check_duality(&pattern, seed)?;
    }

    #[test]
    fn a_value_altered_at_a_fixed_place_is_not_matched_and_the_place_is_told(
        pattern in sendable_pattern(), seed in any::<u64>(), which in any::<prop::sample::Index>()
    ) {
        let mut value = check_duality(&pattern, seed)?;
        let mut places = Vec::new();
        let mut bound: Vec<String> = BOUND.iter().map(|(name, _)| (*name).to_owned()).collect();
        let whole = Place { path: "$".to_owned(), pointer: Vec::new() };
        fixed_places(&pattern, &whole, &mut bound, &mut places);
        prop_assume!(!places.is_empty());
        let place = which.get(&places);
        prop_assume!(alter(&mut value, &place.pointer).is_some());
        let found = matches(&pattern, &value, &bindings());
        let shown = pattern_text(&pattern);
        prop_assert!(found.is_err(), "{shown} matches {value}, altered at {}", place.path);
        let paths: Vec<String> = found.expect_err("is err").into_iter().map(|one| one.path).collect();
        prop_assert!(paths.contains(&place.path), "{shown} differs from {value} at {}, told were {paths:?}", place.path);
    }

    #[test]
    fn the_same_seed_makes_the_same_value(pattern in sendable_pattern(), seed in any::<u64>()) {
        let make = || generate(&pattern, &mut bindings(), &mut fastrand::Rng::with_seed(seed));
        prop_assert_eq!(make(), make());
    }
}

/// Reads a pattern and looks at a value through it; what differs.
fn check_mismatch(pattern: &str, value: &Value) -> Vec<String> {
    let read = parse_pattern(pattern).expect("the pattern of a test can be read");
    match matches(&read, value, &bindings()) {
        Ok(_) => Vec::new(),
        Err(mismatches) => mismatches.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_difference_is_told_with_its_place_and_types() {
    let found = check_mismatch(
        r#"{"a": integer, "b": [1, "x"], "c": {"d": 1..5}, "e": absent, "f": uuid}"#,
        &json!({"a": "1", "b": [1], "c": {"d": 7}, "e": null}),
    );
    assert_eq!(
        found,
        [
            "at $.a: expected integer, found \"1\" (string)",
            "at $.b[1]: expected \"x\", found nothing",
            "at $.c.d: expected 1..5, found 7 (number)",
            "at $.e: expected absent, found null (null)",
            "at $.f: expected uuid, found nothing",
        ]
    );
}

#[test]
fn what_only_describes_is_matched() {
    let fits = |pattern: &str, value: Value| check_mismatch(pattern, &value).is_empty();
    assert!(fits("string & /^a/ & not \"ab\"", json!("ac")));
    assert!(!fits("string & /^a/ & not \"ab\"", json!("ab")));
    assert!(fits(r#"{"a": not 1}"#, json!({})));
    assert!(!fits(r#"{"a": not absent}"#, json!({})));
    assert!(fits(r#"exactly {"a": 1 | absent}"#, json!({})));
    assert!(!fits(r#"exactly {"a": 1 | absent}"#, json!({"b": 1})));
    assert!(fits(r#"unordered [$p, {"x": $p}]"#, json!([{"x": 3}, 3])));
    assert!(!fits(r#"unordered [$p, {"x": $p}]"#, json!([{"x": 3}, 4])));
    assert!(fits(r#"[1, ...]"#, json!([1, 2, 3])));
    assert!(!fits(r#"[1]"#, json!([1, 2, 3])));
    assert!(fits("integer", json!(2.0)) && !fits("integer", json!(2.5)));
    assert!(fits("1", json!(1.0)), "1 and 1.0 are the same JSON number");
    assert!(!fits("9007199254740993", json!(9007199254740992_u64)), "whole numbers are compared exactly");
}

#[test]
fn a_variable_bound_in_one_alternative_is_bound_alike_in_both_readings() {
    // The second alternative makes a text that the first would take for `$p`.
    for seed in 0..50 {
        let pattern = parse_pattern(r#"[$p: string | string, $p]"#).expect("can be read");
        check_duality(&pattern, seed).unwrap();
        let pattern = parse_pattern(r#"[($p: string) | string, $p]"#).expect("can be read");
        check_duality(&pattern, seed).unwrap();
    }
}

#[test]
fn a_member_whose_name_is_bound_to_that_of_another_is_not_made_twice() {
    let make = |pattern: &str| {
        let pattern = parse_pattern(pattern).expect("can be read");
        let mut bindings = Bindings::default();
        bindings.bind("key", Bound::Value(json!("b")));
        generate(&pattern, &mut bindings, &mut fastrand::Rng::with_seed(1))
    };
    assert_eq!(make(r#"{$key: 1, "b": 2}"#), Err(Ungeneratable::Twice("b".to_owned())));
    assert_eq!(make(r#"{$other: absent}"#), Err(Ungeneratable::Unbound("other".to_owned())));
    // After it, the variable replaces what it names: so a flow breaks one member of many, row by row.
    assert_eq!(make(r#"{"a": 1, "b": 2, $key: 3}"#), Ok(json!({"a": 1, "b": 3})));
}

#[test]
fn a_range_of_extreme_numbers_makes_a_number() {
    for range in [
        "-1e308..1e308",
        "-1.7976931348623157e308..1.7976931348623157e308",
        "18446744073709551610..",
        "..-9223372036854775808",
        "0.1..0.1",
        "..-1.5e308",
        "1.5e308..",
        "0.5..",
    ] {
        let pattern = parse_pattern(range).expect("can be read");
        for seed in 0..20 {
            let value = check_duality(&pattern, seed).unwrap();
            assert!(json::short(&value, 100).parse::<f64>().is_ok(), "{range} made {value}");
        }
    }
}
