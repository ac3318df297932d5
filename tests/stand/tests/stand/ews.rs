//! The EWS double is strict where Exchange is. What it serves is proved by other people's clients.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_stand::{PASSWORD, Stand, Wire};

const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";
const TYPES: &str = "http://schemas.microsoft.com/exchange/services/2006/types";

/// Posts an operation, and returns the status and the answer.
fn post(stand: &Stand, version: &str, operation: &str) -> (u16, String) {
    let body = format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:m=\"{MESSAGES}\" xmlns:t=\"{TYPES}\"><s:Header><t:RequestServerVersion Version=\"{version}\"/></s:Header><s:Body>{operation}</s:Body></s:Envelope>"
    );
    let sign_in = format!(
        "Basic {}",
        BASE64.encode(format!("strict@ews.example:{PASSWORD}"))
    );
    let headers = [
        ("Authorization", sign_in.as_str()),
        ("Content-Type", "text/xml; charset=utf-8"),
    ];
    let wire = Wire::tls(stand.ports().ews, stand.ca_pem()).expect("an answer of the double");
    let answer = wire
        .exchange("POST", "/EWS/Exchange.asmx", &headers, body.as_bytes())
        .expect("an answer of the double");
    (
        answer.status,
        String::from_utf8(answer.body).expect("an answer of the double"),
    )
}

#[test]
fn a_request_that_does_not_fit_the_schema_is_refused() {
    let stand = Stand::shared().unwrap();
    let inbox = "<t:DistinguishedFolderId Id=\"inbox\"/>";
    let shape = "<m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>";
    let ids = format!("<m:FolderIds>{inbox}</m:FolderIds>");
    let get = |inside: &str| format!("<m:GetFolder>{inside}</m:GetFolder>");
    let good = get(&format!("{shape}{ids}"));
    let (status, answer) = post(stand, "Exchange2013_SP1", &good);
    assert_eq!(status, 200, "{answer}");
    let sync = |most: &str| {
        format!(
            "<m:SyncFolderItems><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:SyncFolderId>{inbox}</m:SyncFolderId><m:MaxChangesReturned>{most}</m:MaxChangesReturned></m:SyncFolderItems>"
        )
    };
    assert_eq!(post(stand, "Exchange2010", &sync("512")).0, 200);
    for (version, operation, code) in [
        ("Exchange2013", get(&format!("{ids}{shape}")), "ErrorSchemaValidation"),
        ("Exchange2013", get(shape), "ErrorSchemaValidation"),
        ("Exchange2013", good.replace("m:FolderIds", "t:FolderIds"), "ErrorSchemaValidation"),
        ("Exchange2013", good.replace("<t:BaseShape>", "<t:BaseShape Odd=\"1\">"), "ErrorSchemaValidation"),
        ("Exchange2013", sync("513"), "ErrorSchemaValidation"),
        ("Exchange2013", good.replace("GetFolder", "GetFolders"), "ErrorSchemaValidation"),
        ("Exchange2099", good.clone(), "ErrorInvalidServerVersion"),
        (
            "Exchange2010",
            "<m:DeleteItem DeleteType=\"SoftDelete\" SuppressReadReceipts=\"true\"><m:ItemIds><t:ItemId Id=\"x\"/></m:ItemIds></m:DeleteItem>".into(),
            "ErrorSchemaValidation",
        ),
    ] {
        let (status, answer) = post(stand, version, &operation);
        assert_eq!(status, 500, "{operation}: {answer}");
        assert!(answer.contains(code), "{operation}: {answer}");
    }
}
