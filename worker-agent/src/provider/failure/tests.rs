use super::*;

#[test]
fn what_each_reason_leads_to() {
    let mut table = String::from("reason            class             retry  next model\n");
    for reason in Reason::ALL {
        table.push_str(&format!(
            "{:<17} {:<17} {:<6} {}\n",
            format!("{reason:?}"),
            reason.class(),
            reason.retryable(),
            reason.falls_back()
        ));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn vendors_words_and_their_class() {
    let cases: &[(Option<u16>, &str)] = &[
        (Some(400), "This model's maximum context length is 128000 tokens"),
        (Some(400), "prompt is too long: 210000 tokens > 200000 maximum invalid_request_error"),
        (Some(413), "Request too large"),
        (Some(413), "Request too large for model on tokens per minute (TPM): Limit 6000"),
        (Some(429), "Request too large for gpt-4o: maximum context length, TPM limit 30000"),
        (
            Some(429),
            "You exceeded your current quota, please check your plan and billing details. insufficient_quota",
        ),
        (
            Some(429),
            "You exceeded your current quota, please check your plan and billing details. RESOURCE_EXHAUSTED",
        ),
        (Some(429), "Rate limit reached"),
        (Some(402), ""),
        (
            Some(400),
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing",
        ),
        (Some(401), "No auth credentials found"),
        (Some(401), "Incorrect API key provided"),
        (Some(403), "Your organization has been deactivated"),
        (Some(403), "Forbidden"),
        (Some(404), "model 'x' not found"),
        (Some(400), "foo/bar is not a valid model ID"),
        (Some(400), "\"llama2\" does not support tools"),
        (Some(400), "Reasoning is mandatory for this endpoint; context length exceeded"),
        (Some(408), ""),
        (Some(500), "Internal Server Error"),
        (Some(503), "The model is overloaded. Please try again later. UNAVAILABLE"),
        (Some(502), "Bad Gateway"),
        (Some(504), "upstream request timeout"),
        (Some(529), "Overloaded overloaded_error"),
        (Some(521), "web server is down"),
        (None, "Overloaded overloaded_error"),
        (None, "Internal server error api_error"),
        (None, "an error was encountered while running the model: unexpected EOF"),
        (None, "content_filter"),
    ];
    let table: Vec<String> = cases
        .iter()
        .map(|(status, words)| {
            let status = status.map_or("stream".to_owned(), |s| s.to_string());
            format!("{status:<7} {:<16} {words}", format!("{:?}", classify(status.parse().ok(), words)))
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn error_bodies_of_every_vendor() {
    let read = |body: &str| vendor_words(body).message;
    assert_eq!(read(r#"{"error":{"message":"no","type":"t","code":"c"}}"#), "no");
    assert_eq!(
        read(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
        "Overloaded"
    );
    assert_eq!(read(r#"{"error":"model 'x' not found"}"#), "model 'x' not found");
    assert_eq!(read(r#"[{"error":{"code":400,"message":"API key not valid"}}]"#), "API key not valid");
    assert_eq!(
        read(r#"{"error":{"message":"Provider returned error","metadata":{"raw":"tpm"}}}"#),
        "Provider returned error (tpm)"
    );
    assert_eq!(shortened(&read("<html><title>502</title> Bad  Gateway</html>")), "502 Bad Gateway");
    assert_eq!(vendor_words(r#"{"error":{"code":502,"message":"x"}}"#).status, Some(502));
    assert_eq!(shortened(&"ä".repeat(5000)).chars().count(), 600);
}

#[test]
fn sentences_name_model_status_and_remedy() {
    let mut error = ProviderError::new(Reason::RateLimit, "openrouter", "x-ai/grok", "slow down.");
    error.status = Some(429);
    error.retry_after = Some(std::time::Duration::from_millis(6200));
    let reached = "openrouter/x-ai/grok: rate limit reached (HTTP 429): slow down; it asks to wait 7 s. Try again in a moment, or add another model to agents.defaults.model.fallbacks.";
    assert_eq!(error.to_string(), reached);
    let missing = ProviderError::new(Reason::MissingKey, "openai", "gpt-5.2", "set OPENAI_API_KEY");
    assert!(missing.to_string().contains("no API key found: set OPENAI_API_KEY"), "{missing}");
}
