//! The examples of `docs/sql.md` do what the page says.

use super::outcome;

#[test]
fn the_examples_of_the_page_are_true() {
    let page = include_str!("../../../../../docs/sql.md");
    let (mut input, mut sql, mut checked) = (String::new(), String::new(), 0);
    let mut blocks = page.split("```");
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        let (kind, body) = block.split_once('\n').unwrap();
        match kind {
            "json input" => input = body.to_owned(),
            "sql" => sql = body.to_owned(),
            "json output" => {
                assert_eq!(outcome(&sql, &input), body, "{sql}");
                checked += 1;
            }
            _ => {}
        }
    }
    assert!(checked >= 7, "only {checked} examples were found");
}

/// The page names every function, and no other.
#[test]
fn every_function_of_the_page_exists() {
    let page = include_str!("../../../../../docs/sql.md");
    let list = page.split("## All functions").nth(1).unwrap().split("`lpad`, ").next().unwrap();
    let names = list.split('`').skip(1).step_by(2);
    for name in names.filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains('('))
    {
        // Too few arguments, but not unknown.
        let outcome = outcome(&format!("SELECT {name}() AS x FROM input"), "{}");
        assert!(!outcome.contains("there is no function"), "{name}: {outcome}");
    }
}
