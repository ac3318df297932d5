// The errors of a request in each provider's words: Microsoft with AADSTS numbers, Google and the
// bare standard without.

import { randomUUID } from 'node:crypto';

// By trouble: status, error, AADSTS code, Microsoft's text.
const MICROSOFT = {
  invalid_client: [401, 'invalid_client', 7000215, 'Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID.'],
  expired_secret: [401, 'invalid_client', 7000222, 'The provided client secret keys for the app are expired.'],
  unknown_client: [400, 'unauthorized_client', 700016, 'Application was not found in the directory. You may have sent your authentication request to the wrong tenant.'],
  missing_secret: [401, 'invalid_client', 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."],
  public_with_secret: [401, 'invalid_client', 700025, "Client is public so neither 'client_assertion' nor 'client_secret' should be presented."],
  bad_assertion: [401, 'invalid_client', 700027, 'The certificate with identifier used to sign the client assertion is not registered on application.'],
  assertion_time: [401, 'invalid_client', 700024, 'Client assertion is not within its valid time range.'],
  invalid_app_scope: [400, 'invalid_scope', 70011, 'The provided value for the input parameter \'scope\' is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.'],
  invalid_scope: [400, 'invalid_scope', 70011, 'The provided value for the input parameter \'scope\' is not valid.'],
  two_resources: [400, 'invalid_request', 28000, 'Provided value for the input parameter scope is not valid because it contains more than one resource.'],
  invalid_resource: [400, 'invalid_resource', 500011, 'The resource principal was not found in the tenant.'],
  unsupported_grant_type: [400, 'unsupported_grant_type', 70003, 'The app requested an unsupported grant type.'],
  grant_not_allowed: [400, 'unauthorized_client', 70001, 'The application is not allowed this grant.'],
  invalid_request: [400, 'invalid_request', 900144, 'The request is malformed or lacks a parameter.'],
  server_error: [500, 'server_error', 90033, 'A transient error has occurred. Please try again.'],
  unknown_tenant: [400, 'invalid_request', 90002, 'Tenant not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.'],
  single_tenant: [400, 'invalid_request', 50194, 'Application is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps.'],
  not_on_common: [400, 'invalid_request', 9001023, 'The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint.'],
  redirect: [400, 'invalid_request', 50011, 'The redirect URI specified in the request does not match the redirect URIs configured for the application.'],
  redirect_mismatch: [400, 'invalid_grant', 500112, 'The reply address does not match the reply address provided when requesting the authorization code.'],
  invalid_grant: [400, 'invalid_grant', 9002313, 'Invalid request. Request is malformed or invalid.'],
  code_used: [400, 'invalid_grant', 54005, 'OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.'],
  code_expired: [400, 'invalid_grant', 70008, 'The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.'],
  verifier: [400, 'invalid_grant', 501481, 'The Code_Verifier does not match the code_challenge supplied in the authorization request.'],
  revoked: [400, 'invalid_grant', 50173, 'The provided grant has expired due to it being revoked, a fresh auth token is needed.'],
  refresh_expired: [400, 'invalid_grant', 700082, 'The refresh token has expired due to inactivity.'],
  consent: [400, 'invalid_grant', 65001, 'The user or administrator has not consented to use the application. Send an interactive authorization request for this user and resource.'],
  mfa: [400, 'invalid_grant', 50076, 'Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource.'],
  locked: [400, 'invalid_grant', 50053, 'The account is locked, you\'ve tried to sign in too many times with an incorrect user ID or password.'],
  expired: [400, 'invalid_grant', 50055, 'The password is expired.'],
  disabled: [400, 'invalid_grant', 50057, 'The user account is disabled.'],
  unknown: [400, 'invalid_grant', 50034, 'The user account does not exist in the directory. To sign into this application, the account must be added to the directory.'],
  password: [400, 'invalid_grant', 50126, 'Error validating credentials due to invalid username or password.'],
  authorization_pending: [400, 'authorization_pending', 70016, 'OAuth 2.0 device flow error. Authorization is pending. Continue polling.'],
  slow_down: [400, 'slow_down', 70016, 'Polling too fast. Slow down.'],
  declined: [400, 'authorization_declined', 65004, 'User declined to consent to access the app.'],
  device_expired: [400, 'expired_token', 70020, 'The provided value for the input parameter \'device_code\' is not valid. This device code has expired.'],
  device_unknown: [400, 'bad_verification_code', 70018, 'Invalid verification code.'],
  login_required: [400, 'login_required', 50058, 'A silent sign-in request was sent but no user is signed in.'],
  no_admin_consent: [400, 'access_denied', 90094, 'An administrator of the directory has to consent to the permissions asked for.'],
  consent_declined: [400, 'access_denied', 65004, 'User declined to consent to access the app.'],
};

// Google's status, error and description, if they differ from the standard's.
const GOOGLE = {
  unknown_client: [401, 'invalid_client', 'The OAuth client was not found.'],
  invalid_client: [401, 'invalid_client', 'Unauthorized'],
  missing_secret: [400, 'invalid_request', 'client_secret is missing.'],
  invalid_grant: [400, 'invalid_grant', 'Bad Request'],
  revoked: [400, 'invalid_grant', 'Token has been expired or revoked.'],
  refresh_expired: [400, 'invalid_grant', 'Token has been expired or revoked.'],
  code_used: [400, 'invalid_grant', 'Bad Request'],
  code_expired: [400, 'invalid_grant', 'Bad Request'],
  verifier: [400, 'invalid_grant', 'Invalid code verifier.'],
  redirect_mismatch: [400, 'redirect_uri_mismatch', 'Bad Request'],
  authorization_pending: [428, 'authorization_pending', 'Precondition Required'],
  slow_down: [403, 'slow_down', 'Forbidden'],
  declined: [403, 'access_denied', 'Forbidden'],
  bad_assertion: [400, 'invalid_grant', 'Invalid JWT Signature.'],
  assertion_time: [400, 'invalid_grant', 'Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.'],
  unknown: [400, 'invalid_grant', 'Invalid email or User ID'],
  invalid_scope: [401, 'unauthorized_client', 'Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested.'],
};

// The standard's words if Microsoft's differ (RFC 6749 section 5.2, RFC 8628 section 3.5).
const STANDARD_ERRORS = {
  unknown_client: 'invalid_client',
  invalid_resource: 'invalid_scope',
  declined: 'access_denied',
  device_unknown: 'invalid_grant',
};

// oidc-provider's detail of an `invalid_grant` or similar, and the matching trouble.
const DETAILS = [
  [/authorization code already consumed/, 'code_used'],
  [/authorization code is expired/, 'code_expired'],
  [/redirect_uri mismatch/, 'redirect_mismatch'],
  [/code_verifier/, 'verifier'],
  [/refresh token already used|grant not found|grant is expired/, 'revoked'],
  [/refresh token is expired/, 'refresh_expired'],
  [/device code not found/, 'device_unknown'],
];

// Returns the trouble for oidc-provider's error and its detail.
export function troubleOf(error, detail) {
  const found = DETAILS.find(([pattern]) => pattern.test(detail ?? ''));
  if (found) return found[1];
  if (error === 'access_denied') return 'declined';
  if (error === 'expired_token') return 'device_expired';
  if (/grant type is not allowed/.test(detail ?? '')) return 'grant_not_allowed';
  return error in MICROSOFT ? error : 'invalid_request';
}

// `AADSTSnnn: text`, as Microsoft begins every description.
export function aadsts(trouble) {
  const [, , code, text] = MICROSOFT[trouble] ?? MICROSOFT.invalid_request;
  return `AADSTS${code}: ${text}`;
}

function microsoftBody(trouble) {
  const [, error, code] = MICROSOFT[trouble] ?? MICROSOFT.invalid_request;
  const traceId = randomUUID();
  const correlationId = randomUUID();
  const timestamp = `${new Date().toISOString().slice(0, 19).replace('T', ' ')}Z`;
  return {
    error,
    error_description: `${aadsts(trouble)} Trace ID: ${traceId} Correlation ID: ${correlationId} Timestamp: ${timestamp}`,
    error_codes: [code],
    timestamp,
    trace_id: traceId,
    correlation_id: correlationId,
    error_uri: `https://login.microsoftonline.com/error?code=${code}`,
  };
}

// Responds to a token or device request with a trouble, in the flavour of its path.
export function refuse(ctx, flavour, trouble) {
  const [status, error, , text] = MICROSOFT[trouble] ?? MICROSOFT.invalid_request;
  ctx.type = 'json';
  if (flavour === 'microsoft') {
    ctx.status = status;
    ctx.body = microsoftBody(trouble);
  } else if (flavour === 'google' && GOOGLE[trouble]) {
    const [googleStatus, googleError, description] = GOOGLE[trouble];
    ctx.status = googleStatus;
    ctx.body = { error: googleError, error_description: description };
  } else {
    ctx.status = status;
    ctx.body = { error: STANDARD_ERRORS[trouble] ?? error, error_description: text };
  }
}

// Returns the error and description of a redirect.
export function redirected(flavour, trouble) {
  const [, error, , text] = MICROSOFT[trouble] ?? MICROSOFT.invalid_request;
  const description = flavour === 'microsoft' ? aadsts(trouble) : text;
  return { error, error_description: flavour === 'google' ? undefined : description };
}
