// An OpenID Connect provider on a free loopback port, for the login tests. Nobody types anything: the account to sign in as is chosen by
// POST /test/account, and whoever comes is that account. Prints its issuer when it listens. POST /test/* changes what it does.
import http from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider } from 'oidc-provider';

const config = JSON.parse(process.argv[2]);
const accounts = config.accounts;
let current = null;

function key(kind) {
  const made = kind === 'ES256' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...made.privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: kind };
}

let provider = null;
function start(issuer, alg) {
  provider = new Provider(issuer, {
    clients: [{
      client_id: config.client_id, client_secret: config.client_secret, redirect_uris: config.redirect_uris,
      grant_types: ['authorization_code'], response_types: ['code'], id_token_signed_response_alg: alg,
    }],
    jwks: { keys: [key('RS256'), key('ES256')] },
    pkce: { required: () => true },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['preferred_username'], groups: ['groups'] },
    scopes: ['openid', 'email', 'profile', 'groups'],
    conformIdTokenClaims: false,
    features: { devInteractions: { enabled: false } },
    cookies: { keys: [randomUUID()] },
    interactions: { url: (ctx, interaction) => `/test/interaction/${interaction.uid}` },
    async loadExistingGrant(ctx) {
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope('openid email profile groups');
      await grant.save();
      return grant;
    },
    async findAccount(ctx, id) {
      return accounts[id] && { accountId: id, claims: async () => ({ sub: id, ...accounts[id] }) };
    },
    ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Interaction: 600, Session: 600, Grant: 600 },
  });
}

const server = http.createServer(async (request, response) => {
  const path = new URL(request.url, 'http://x').pathname;
  let body = '';
  if (path.startsWith('/test/')) for await (const part of request) body += part;
  if (path.startsWith('/test/interaction/')) {
    if (current === null) {
      return provider.interactionFinished(request, response, { error: 'access_denied', error_description: 'no' });
    }
    return provider.interactionFinished(request, response, { login: { accountId: current } }, { mergeWithLastSubmission: false });
  }
  if (path.startsWith('/test/')) {
    const said = body ? JSON.parse(body) : {};
    if (path === '/test/account') current = said.account;
    if (path === '/test/claims') accounts[said.account] = said.claims;
    if (path === '/test/rotate') start(issuer, said.alg ?? 'RS256');
    response.writeHead(204).end();
    return undefined;
  }
  return provider.callback()(request, response);
});

let issuer = '';
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  start(issuer, config.alg ?? 'RS256');
  console.log(`issuer ${issuer}`);
});
