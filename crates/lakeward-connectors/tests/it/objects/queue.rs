//! Notifications of a queue.

use std::time::Duration;

use lakeward_connectors::sources::objects::{NotificationsConfig, ObjectsConfig, SqsAnnouncements};
use lakeward_model::{Announcements, FailureKind, SlicedSource, Wanted};
use serde_json::{Value, json};

use super::server::{Server, etag};
use super::{list, open};

fn config(server: &Server) -> ObjectsConfig {
    let notifications = NotificationsConfig {
        queue_url: format!("{}/1/q", server.address),
        endpoint: None,
        region: None,
        wait: Duration::ZERO,
        visibility: Duration::from_secs(30),
    };
    ObjectsConfig {
        url: "s3://b/in/".into(),
        glob: "**/*.jsonl".into(),
        notifications: Some(notifications),
        ..server.config()
    }
}

fn created(key: &str, about: &Value) -> Value {
    let mut object = about.clone();
    object["key"] = json!(key);
    json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "eventTime": "2026-03-01T05:00:00.000Z", "s3": {"bucket": {"name": "b"}, "object": object}}]})
}

#[tokio::test]
async fn an_announcement_is_the_slice_that_is_listed() {
    let server = Server::start().await;
    server.put("in/a b/ä+1.jsonl", "{}\n");
    server.put("in/other.txt", "{}\n");
    server.put("elsewhere/x.jsonl", "{}\n");
    let config = config(&server);
    let (source, _spool) = open(&config);
    let listed = list(&source, &Wanted::default()).await;
    let about = json!({"size": 3, "eTag": etag(b"{}\n")});
    server.send(&created("in/a+b/%C3%A4%2B1.jsonl", &about));
    // Without an etag the store is asked.
    server.send(&created("in/a+b/%C3%A4%2B1.jsonl", &json!({})));
    server.send(&json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}));
    server.send(&created("in/other.txt", &about));
    server.send(&created("elsewhere/x.jsonl", &about));
    server.send(&created("in/not-there.jsonl", &json!({})));
    server.send(&json!({"hello": "world"}));
    let mut queue = SqsAnnouncements::open(&config, &source).expect("it opens").expect("a queue");
    let announced = queue.next().await.expect("announced");
    assert_eq!(announced.len(), 6);
    assert_eq!(announced[0].slices, listed);
    assert_eq!(announced[1].slices, listed);
    assert!(announced[2..].iter().all(|announcement| announcement.slices.is_empty()));
    assert_eq!(queue.unreadable(), 1);
    assert!(queue.next().await.expect("asked").is_empty());
    assert!(server.state().deleted.is_empty(), "nothing is deleted before it is done");
    let numbers: Vec<u64> = announced.iter().map(|announcement| announcement.number).collect();
    queue.done(&numbers[1..]).await.expect("deleted");
    assert_eq!(server.state().deleted, ["r1", "r2", "r3", "r4", "r5"]);
    queue.done(&numbers).await.expect("deleted");
    // What was not understood stays.
    assert_eq!(server.state().queue.len(), 1);
    assert_eq!(server.state().deleted.len(), 6);
}

#[tokio::test]
async fn what_is_held_stays_hidden() {
    let server = Server::start().await;
    let mut config = config(&server);
    let (source, _spool) = open(&config);
    for n in 0..3 {
        server.send(&created(&format!("in/{n}.jsonl"), &json!({"size": 3, "eTag": "e"})));
    }
    // Shorter than what may be configured, so that the test need not wait.
    config.notifications.as_mut().expect("a queue").visibility = Duration::from_secs(2);
    let mut queue = SqsAnnouncements::open(&config, &source).expect("it opens").expect("a queue");
    let announced = queue.next().await.expect("announced");
    queue.done(&[announced[0].number]).await.expect("deleted");
    let twice = async {
        while server.state().hidden.len() < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), twice).await.expect("hidden again and again");
    let hidden = server.state().hidden.clone();
    assert_eq!(hidden[..2], [(String::from("r1"), 2), (String::from("r2"), 2)]);
    assert_eq!(hidden[..2], hidden[2..4]);
}

#[tokio::test]
async fn bad_answers_of_the_queue_say_what_to_check() {
    let server = Server::start().await;
    let config = config(&server);
    let (source, _spool) = open(&config);
    let mut queue = SqsAnnouncements::open(&config, &source).expect("it opens").expect("a queue");
    let gone = (400, r#"{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no"}"#);
    let denied = (403, r#"{"__type": "com.amazon.coral.service#AccessDeniedException", "Message": "no"}"#);
    for (answer, expect) in [(gone, "queue_url"), (denied, "sqs:ReceiveMessage")] {
        server.state().instead.push_back(answer);
        let failure = queue.next().await.expect_err("refused");
        assert!(failure.kind == FailureKind::Refused && failure.message.contains(expect), "{failure}");
    }
    server.send(&created("in/a.jsonl", &json!({})));
    server.state().instead.push_back((500, ""));
    assert_eq!(queue.next().await.expect_err("a fault").kind, FailureKind::Unknown);
    assert_eq!(queue.next().await.expect("it goes on").len(), 1);
    assert!(source.dates().contains("last change"));
}

#[tokio::test]
async fn messages_that_cannot_be_deleted_come_again() {
    let server = Server::start().await;
    let config = config(&server);
    let (source, _spool) = open(&config);
    for n in 0..1_000 {
        server.send(&created(&format!("in/{n}.jsonl"), &json!({"size": 3, "eTag": "e"})));
    }
    let mut queue = SqsAnnouncements::open(&config, &source).expect("it opens").expect("a queue");
    server.state().undeletable = true;
    let mut numbers = Vec::new();
    while numbers.len() < 1_000 {
        numbers.extend(queue.next().await.expect("announced").iter().map(|one| one.number));
    }
    // As many as are held at most; all of them wait to be deleted.
    for some in numbers.chunks(300) {
        let failure = queue.done(some).await.expect_err("forbidden");
        assert!(failure.message.contains("sqs:DeleteMessage"), "{failure}");
    }
    {
        let mut state = server.state();
        state.undeletable = false;
        state.queue.iter_mut().for_each(|message| message.visible = true);
    }
    // Received anew, they are deleted at last.
    while !server.state().queue.is_empty() {
        let again: Vec<u64> =
            queue.next().await.expect("announced").iter().map(|announced| announced.number).collect();
        assert_eq!(again.len(), 10, "they are held for ever");
        queue.done(&again).await.expect("deleted");
    }
}

#[tokio::test]
async fn one_object_that_cannot_be_looked_at_holds_up_no_other() {
    let server = Server::start().await;
    let config = config(&server);
    let (source, _spool) = open(&config);
    for n in 0..4 {
        server.put(&format!("in/{n}.jsonl"), "{}\n");
        server.send(&created(&format!("in/{n}.jsonl"), &json!({})));
    }
    server.state().forbidden.push("in/1.jsonl".into());
    let mut queue = SqsAnnouncements::open(&config, &source).expect("it opens").expect("a queue");
    let announced = queue.next().await.expect("the others");
    let names: Vec<&str> = announced.iter().map(|one| one.slices[0].name.as_str()).collect();
    assert_eq!(names, ["0.jsonl", "2.jsonl", "3.jsonl"]);
    assert_eq!((queue.unseen(), queue.unreadable()), (1, 0));
    let numbers: Vec<u64> = announced.iter().map(|announced| announced.number).collect();
    queue.done(&numbers).await.expect("deleted");
    assert_eq!(server.state().queue.len(), 1, "it stays for later");
    // Alone, it is told as what it is.
    server.state().queue[0].visible = true;
    let failure = queue.next().await.expect_err("forbidden");
    assert!(failure.kind == FailureKind::Refused && failure.message.contains("s3:"), "{failure}");
    server.state().forbidden.clear();
    server.state().queue[0].visible = true;
    assert_eq!(queue.next().await.expect("announced")[0].slices[0].name, "1.jsonl");
}

#[tokio::test]
async fn an_announced_key_that_nobody_can_ask_for_is_not_taken() {
    let server = Server::start().await;
    let config = ObjectsConfig { glob: "**".into(), ..config(&server) };
    let (source, _spool) = open(&config);
    for key in ["in/z/", "in//y", "in/a//b", "in/ok"] {
        server.send(&created(key, &json!({"size": 3, "eTag": "e"})));
    }
    let mut queue = SqsAnnouncements::open(&config, &source).expect("it opens").expect("a queue");
    let announced = queue.next().await.expect("announced");
    let names: Vec<&str> =
        announced.iter().flat_map(|one| &one.slices).map(|slice| slice.name.as_str()).collect();
    assert_eq!((announced.len(), names), (4, vec!["ok"]));
}
