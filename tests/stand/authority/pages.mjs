// The pages that a person sees: sign-in, consent, the code of a device, and errors. Plain HTML forms with stable
// ids (#user, #password, #sign-in, #accept, #decline, #user-code, #next), so that a browser or a small HTTP
// client can follow them.

import { aadsts, redirected } from './errors.mjs';
import { passwordTrouble } from './grants.mjs';
import { OFFLINE } from './scopes.mjs';
import { keepSecrets, user } from './state.mjs';

const INTERACTION = /^\/interaction\/[^/]+$/;

function escape(text) {
  return String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

function page(title, body) {
  return `<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>${escape(title)}</title></head>
<body>\n<h1>${escape(title)}</h1>\n${body}\n</body></html>\n`;
}

function message(text) {
  return text ? `<p id="message">${escape(text)}</p>` : '';
}

// A page without controls.
export function errorPage(ctx, trouble) {
  ctx.status = 400;
  ctx.type = 'html';
  ctx.body = page('Sorry, but we are having trouble signing you in', message(aadsts(trouble)));
}

function signInPage(action, address, said) {
  return page('Sign in', `${message(said)}
<form method="post" action="${action}">
<label>User <input id="user" name="user" value="${escape(address)}"></label>
<label>Password <input id="password" name="password" type="password"></label>
<button id="sign-in" name="do" value="sign-in">Sign in</button>
</form>`);
}

function consentPage(action, address, clientId, scopes, admin) {
  const accept = admin ? '' : '<button id="accept" name="do" value="accept">Accept</button>';
  const list = scopes.map((scope) => `<li>${escape(scope === OFFLINE ? 'offline_access' : scope)}</li>`).join('');
  return page(admin ? 'Need admin approval' : 'Permissions requested', `<p>${escape(clientId)} asks ${escape(address)} for:</p>
<ul id="scopes">${list}</ul>
<form method="post" action="${action}">
${accept}
<button id="decline" name="do" value="decline">Decline</button>
</form>`);
}

async function readForm(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString('utf8')));
}

// The name of the prompt, its page, and the actions of its buttons, in the form of the library's interactions.
export function interactions(provider) {
  return async (ctx, next) => {
    if (!INTERACTION.test(ctx.path)) return next();
    const details = await provider.interactionDetails(ctx.req, ctx.res);
    const form = ctx.method === 'POST' ? await readForm(ctx.req) : {};
    keepSecrets(form.password);
    const flavour = details.params.stand_flavour;
    const finish = async (result) => {
      ctx.status = 303;
      ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result));
    };
    ctx.type = 'html';
    ctx.status = 200;
    if (details.prompt.name === 'login') {
      const address = form.user ?? details.params.login_hint ?? '';
      const trouble = form.do === 'sign-in' ? passwordTrouble(address.trim(), form.password) : null;
      if (form.do !== 'sign-in' || trouble) {
        ctx.body = signInPage(ctx.path, address, trouble && aadsts(trouble));
        return undefined;
      }
      return finish({ login: { accountId: address.trim().toLowerCase() } });
    }
    const { accountId } = details.session;
    const admin = user(accountId).behaviour === 'no_consent';
    if (form.do === 'accept' && !admin) return finish(await accept(provider, details));
    if (form.do === 'decline') return finish(redirected(flavour, admin ? 'no_admin_consent' : 'consent_declined'));
    ctx.body = consentPage(ctx.path, accountId, details.params.client_id, details.params.scope.split(' '), admin);
    return undefined;
  };
}

async function accept(provider, { prompt, grantId, session, params }) {
  const grant = (grantId && await provider.Grant.find(grantId))
    || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const { missingOIDCScope, missingOIDCClaims } = prompt.details;
  if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
  if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
  return { consent: { grantId: await grant.save() } };
}

// ---- the pages of the device flow, in the form of the library's options ----

export async function userCodePage(ctx, form, out, error) {
  let said = '';
  if (error?.name === 'AbortedError') said = 'The sign-in was declined. You can close this page.';
  else if (error) said = 'That code did not work. Check it and try again.';
  const named = form.replace('type="text" name="user_code"', 'id="user-code" type="text" name="user_code"');
  ctx.type = 'html';
  ctx.body = page('Enter the code', `${message(said)}\n${named}
<button id="next" type="submit" form="op.deviceInputForm">Next</button>`);
}

export async function userCodeConfirmPage(ctx, form, client, deviceInfo, userCode) {
  ctx.type = 'html';
  ctx.body = page('Is this your device?', `<p>Code ${escape(userCode)}, for ${escape(client.clientId)}</p>\n${form}
<button id="next" type="submit" form="op.deviceConfirmForm">Continue</button>
<button id="decline" type="submit" form="op.deviceConfirmForm" name="abort" value="yes">Cancel</button>`);
}

export async function deviceDonePage(ctx) {
  ctx.type = 'html';
  ctx.body = page('Signed in', message('You have signed in on your device. You can close this page.'));
}

export async function renderError(ctx, out) {
  ctx.type = 'html';
  ctx.body = page('Something went wrong', message(`${out.error}: ${out.error_description ?? ''}`));
}
