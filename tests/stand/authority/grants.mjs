// The grants oidc-provider lacks, the password (RFC 6749 section 4.3) and Google's service account (RFC 7523),
// and what Microsoft checks of a certificate's assertion.

import { createHash, createPublicKey, createVerify, X509Certificate } from 'node:crypto';

import { errors } from 'oidc-provider';

import { jwtPart } from './endpoints.mjs';
import { GOOGLE_MAIL, understood, words } from './scopes.mjs';
import { applications, config, serviceAccounts, user } from './state.mjs';

const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
// The scopes a user of the password grant has consented to, whichever resource is requested first.
const CONSENTED = 'openid profile email offline_access https://outlook.office.com/.default https://graph.microsoft.com/.default';
const MAX_ASSERTION_SECS = 600;
const MAX_SERVICE_ASSERTION_SECS = 3600;

// Ends a grant with a trouble of errors.mjs.
function refused(ctx, trouble) {
  ctx.state.trouble = trouble;
  throw new errors.InvalidGrant(trouble);
}

// Returns the trouble with a user's password, or null.
export function passwordTrouble(address, password) {
  const known = user(address);
  if (known.behaviour === 'unknown' || !address.includes('@')) return 'unknown';
  if (known.behaviour === 'locked' || known.behaviour === 'disabled') return known.behaviour;
  if (known.password !== password) return 'password';
  return known.behaviour === 'expired' ? 'expired' : null;
}

// Stores a grant and its tokens for a user, and responds with them.
async function issue(ctx, address, scopes, wanted, refreshable) {
  const { provider, client } = ctx.oidc;
  const grant = new provider.Grant({ accountId: address, clientId: client.clientId });
  grant.addOIDCScope(scopes.join(' '));
  const grantId = await grant.save();
  const common = { accountId: address, client, grantId, gty: ctx.oidc.params.grant_type, scope: scopes.join(' ') };
  ctx.state.wanted = wanted;
  const token = new provider.AccessToken(common);
  ctx.oidc.entity('AccessToken', token);
  const value = await token.save();
  ctx.body = { access_token: value, expires_in: token.expiration, token_type: token.tokenType, scope: common.scope };
  if (refreshable) ctx.body.refresh_token = await new provider.RefreshToken({ ...common, rotations: 0 }).save();
}

async function passwordGrant(ctx) {
  const { username = '', password = '' } = ctx.oidc.params;
  const trouble = passwordTrouble(username, password);
  if (trouble) refused(ctx, trouble);
  const { behaviour } = user(username);
  if (behaviour === 'mfa') refused(ctx, 'mfa');
  if (behaviour === 'no_consent') refused(ctx, 'consent');
  const { wanted } = ctx.state;
  const scopes = [...new Set([...understood(CONSENTED).scopes, ...wanted])];
  const refreshable = wanted.some((scope) => understood('offline_access').scopes.includes(scope));
  await issue(ctx, username.toLowerCase(), scopes, wanted, refreshable);
}

async function serviceAccountGrant(ctx) {
  const { assertion } = ctx.oidc.params;
  const header = jwtPart(assertion, 0);
  const { iss, sub, aud, scope, iat, exp } = jwtPart(assertion, 1);
  const { publicKey } = serviceAccounts.get(iss);
  const [head, payload, signature = ''] = assertion.split('.');
  const good = createVerify('RSA-SHA256').update(`${head}.${payload}`).verify(publicKey, signature, 'base64url');
  if (header.alg !== 'RS256' || !good || aud !== ctx.state.tokenUrl) refused(ctx, 'bad_assertion');
  const now = Date.now() / 1000;
  if (!(exp > now && iat <= now + 1 && exp - iat <= MAX_SERVICE_ASSERTION_SECS)) refused(ctx, 'assertion_time');
  if (!sub || passwordTrouble(sub, user(sub).password)) refused(ctx, 'unknown');
  if (words(scope).length !== 1 || scope !== GOOGLE_MAIL) refused(ctx, 'invalid_scope');
  await issue(ctx, sub.toLowerCase(), [GOOGLE_MAIL], [GOOGLE_MAIL], false);
}

export function register(provider) {
  provider.registerGrantType('password', passwordGrant, ['username', 'password']);
  provider.registerGrantType(JWT_BEARER, serviceAccountGrant, ['assertion']);
}

// A certificate as the server stores it: its key and its thumbprint, which assertions must name.
export function certificate(pem) {
  const x509 = new X509Certificate(pem);
  return {
    jwk: { ...x509.publicKey.export({ format: 'jwk' }), use: 'sig', alg: 'PS256' },
    thumbprint: createHash('sha256').update(x509.raw).digest('base64url'),
  };
}

// Checks Microsoft's conditions for an assertion beyond the signature, which the library has verified.
export async function checkAssertion(ctx, claims, header, client) {
  const { certificates } = applications.get(client.clientId);
  const named = certificates.some(({ thumbprint }) => thumbprint === header['x5t#S256']);
  const short = claims.exp - (claims.iat ?? claims.nbf) <= MAX_ASSERTION_SECS;
  if (!named || !short || claims.sub !== client.clientId) {
    throw new errors.InvalidClientAuth('thumbprint, lifetime or subject of the assertion');
  }
}

export function serviceAccountKey(pem) {
  return { publicKey: createPublicKey(pem), tokenUri: `${config.origin}/google/token` };
}
