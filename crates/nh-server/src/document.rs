//! `/openapi.json`: written from the handlers' own annotations, with the
//! errors that an operation can give added by what it is.

use http::Method;
use nh_types::error::ErrorBody;
use nh_types::run::Values;
use nh_types::webhook::WebhookEvent;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, OpenApi, RefOr, Required, ResponseBuilder};
use utoipa::{OpenApi as _, ToSchema};

const DESCRIPTION: &str = "Agents, tools, models and runs over one API. A bearer key or a browser \
session holds scopes; each operation's `security` names the scope that it needs. Every error has \
the body of `ErrorBody`, and every answer the header `x-request-id`.";

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "NeuralHub",
    description = "",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct Base;

/// What all operations share.
pub(crate) fn base() -> OpenApi {
    let mut document = Base::openapi();
    document.info.description = Some(DESCRIPTION.to_owned());
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key: `Authorization: Bearer nh_…`, or `x-api-key: nh_…`"))
        .build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let cookie =
        ApiKeyValue::with_description("nh_session", "A browser session, `__Host-nh_session` behind https");
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    let mut schemas = Vec::new();
    ErrorBody::schemas(&mut schemas);
    schemas.push((ErrorBody::name().into_owned(), <ErrorBody as utoipa::PartialSchema>::schema()));
    WebhookEvent::schemas(&mut schemas);
    schemas.push((WebhookEvent::name().into_owned(), <WebhookEvent as utoipa::PartialSchema>::schema()));
    // It stands in a query only, where it is not found by itself.
    schemas.push((Values::name().into_owned(), <Values as utoipa::PartialSchema>::schema()));
    components.schemas.extend(schemas);
    document.webhooks = Some(PathsBuilder::new().path("run.ended", webhook()).build());
    document
}

/// What the hub sends to a run's `webhook_url`.
fn webhook() -> PathItem {
    let schema = utoipa::openapi::Ref::from_schema_name(WebhookEvent::name());
    let body = RequestBodyBuilder::new()
        .content("application/json", ContentBuilder::new().schema(Some(schema)).build())
        .required(Some(Required::True))
        .build();
    let heard = ResponseBuilder::new().description("Any 2xx: it is heard, and not sent again").build();
    let operation = OperationBuilder::new()
        .summary(Some("A run has ended. Signed as Standard Webhooks 1.0.0 says"))
        .request_body(Some(body))
        .response("2XX", heard)
        .build();
    PathItem::new(HttpMethod::Post, operation)
}

/// Writes axum's wildcards as plain parameters and adds the common errors.
pub(crate) fn complete(mut document: OpenApi) -> OpenApi {
    let paths = std::mem::take(&mut document.paths.paths);
    for (path, mut item) in paths {
        for operation in operations_mut(&mut item) {
            name(operation);
            add_common_errors(operation);
            describe_responses(operation);
        }
        document.paths.paths.insert(path.replace("{*", "{"), item);
    }
    document
}

/// Handlers are called `list` or `create` in every group of routes; an
/// operation's id has to be its own.
fn name(operation: &mut Operation) {
    let group = operation.tags.as_ref().and_then(|tags| tags.first());
    if let (Some(group), Some(id)) = (group, &operation.operation_id) {
        operation.operation_id = Some(format!("{}_{id}", group.to_lowercase().replace(' ', "_")));
    }
}

/// OpenAPI demands a description of each response; where the handler gives
/// none, the status says it all.
fn describe_responses(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            let reason = status.parse().ok().and_then(|status: http::StatusCode| status.canonical_reason());
            response.description = reason.unwrap_or("See `ErrorBody`").to_owned();
        }
    }
}

/// Every operation, with its path and method.
pub(crate) fn operations(document: &OpenApi) -> impl Iterator<Item = (&str, Method, &Operation)> {
    document.paths.paths.iter().flat_map(|(path, item)| {
        let of_path = [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PATCH, &item.patch),
            (Method::PUT, &item.put),
            (Method::DELETE, &item.delete),
        ];
        of_path
            .into_iter()
            .filter_map(|(method, operation)| Some((path.as_str(), method, operation.as_ref()?)))
    })
}

/// Every route as axum knows it, with its methods.
pub(crate) fn routes(document: &OpenApi) -> Vec<(String, Method)> {
    operations(document).map(|(path, method, _)| (path.to_owned(), method)).collect()
}

fn operations_mut(item: &mut utoipa::openapi::PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.put, &mut item.delete].into_iter().flatten()
}

fn add_common_errors(operation: &mut Operation) {
    // A public operation has one requirement, an empty one.
    let is_way_in = |needs: &SecurityRequirement| *needs != SecurityRequirement::default();
    let has_credential = operation.security.as_ref().is_some_and(|needs| needs.iter().any(is_way_in));
    let takes = |place: ParameterIn| {
        let is = |one: &RefOr<Parameter>| matches!(one, RefOr::T(one) if one.parameter_in == place);
        operation.parameters.as_ref().is_some_and(|all| all.iter().any(is))
    };
    let (in_path, in_query) = (takes(ParameterIn::Path), takes(ParameterIn::Query));
    let has_body = operation.request_body.is_some();
    let errors = [
        ("400", has_body || in_query, "Missing, unparsable or wrongly typed"),
        ("401", has_credential, "No or a bad credential"),
        ("403", has_credential, "The credential lacks the scope"),
        ("403", !has_credential, "On a loopback address: the `Host` is not the hub's own"),
        ("404", in_path, "There is no such thing in the caller's workspace"),
        ("408", has_body, "The body did not arrive in time"),
        ("413", has_body, "The body is too large"),
        ("415", has_body, "The body is not application/json"),
        ("422", has_body || in_query, "Well-formed but not acceptable"),
        ("429", has_credential, "Too many requests; see `Retry-After`"),
        ("500", true, "The hub failed"),
        ("503", has_credential, "Stopping, overloaded, or a component is missing"),
    ];
    for (status, applies, meaning) in errors {
        if applies && !operation.responses.responses.contains_key(status) {
            operation.responses.responses.insert(status.to_owned(), RefOr::T(error(meaning)));
        }
    }
}

fn error(meaning: &str) -> utoipa::openapi::Response {
    let schema = utoipa::openapi::Ref::from_schema_name(ErrorBody::name());
    ResponseBuilder::new()
        .description(meaning)
        .content("application/json", ContentBuilder::new().schema(Some(schema)).build())
        .build()
}
