//! A login token made by the older system's Python library, with this connection's challenge inside.

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, StreamExt};
use tokio::process::Command;
use tokio_tungstenite::tungstenite::ClientRequestBuilder;
use tunnler_protocol::SecretKey;
use tunnler_protocol::control::{AuthResponse, CONNECT_PATH, SUBPROTOCOL, ToClient, ToRelay};
use tunnler_protocol::instance::{InstanceId, SessionId};
use tunnler_tests::process::{Scratch, run_ok};
use tunnler_tests::visitor::Tls;
use tunnler_tests::world::{Layout, World, ZONE};

const SIGN: &str = "
import sys
from hvym_stellar import Stellar25519KeyPair, StellarJWTToken
from stellar_sdk import Keypair
secret, audience, challenge = sys.argv[1:]
pair = Stellar25519KeyPair(Keypair.from_secret(secret))
print(StellarJWTToken(keypair=pair, audience=audience, claims={'challenge': challenge}).to_jwt())
";

async fn python_token(key: &SecretKey, audience: &str, challenge: &str) -> Result<String> {
    let tools = std::env::var("TUNNLER_TOOLS").context("TUNNLER_TOOLS is not set; run scripts/test")?;
    let mut python = Command::new(format!("{tools}/python/bin/python3"));
    run_ok(python.args(["-c", SIGN, key.to_strkey().as_str(), audience, challenge])).await
}

#[tokio::test]
async fn a_token_of_the_python_library_logs_in_and_is_not_accepted_twice() -> Result<()> {
    tunnler_transport::tls::install_provider();
    let dir = Scratch::new()?;
    let layout = Layout { relays: 1, ..Layout::default() };
    let world = World::start(dir.path(), &layout, |step| println!("{step}")).await?;
    let client = SecretKey::from_seed(&[1; 32]);
    let (token, answer) = login(&world, |challenge, relay| {
        let (client, relay) = (client.clone(), relay.to_owned());
        async move { python_token(&client, &relay, &challenge).await }
    })
    .await?;
    let ToClient::AuthOk(ok) = answer else { anyhow::bail!("refused: {answer:?}") };
    ensure!(ok.endpoints.is_empty(), "attached without a presence, so not routed: {ok:?}");

    let (_, again) = login(&world, |_, _| std::future::ready(Ok(token.clone()))).await?;
    ensure!(matches!(again, ToClient::AuthFailed(_)), "an old token was accepted: {again:?}");
    let other = SecretKey::from_seed(&[2; 32]).address().to_string();
    let (_, elsewhere) = login(&world, |challenge, _| {
        let (client, other) = (client.clone(), other.clone());
        async move { python_token(&client, &other, &challenge).await }
    })
    .await?;
    ensure!(
        matches!(elsewhere, ToClient::AuthFailed(_)),
        "a token for another relay was accepted: {elsewhere:?}"
    );
    drop(world);
    dir.done();
    Ok(())
}

/// Connects to the first relay, answers its challenge with the token that `sign` makes, and returns the verdict.
async fn login<F>(world: &World, sign: impl FnOnce(String, &str) -> F) -> Result<(String, ToClient)>
where
    F: Future<Output = Result<String>>,
{
    let relay = &world.relays[0];
    let host = format!("{}.relay.{ZONE}", relay.relay().label());
    let visitor = world.visitor().await?;
    let tls: &Tls = visitor.tls();
    let stream = tls.connect(relay.ingress(), &host).await?;
    let request = ClientRequestBuilder::new(format!("wss://{host}{CONNECT_PATH}").parse()?);
    let request = request.with_sub_protocol(SUBPROTOCOL);
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    let text = socket.next().await.context("closed before the challenge")??.into_text()?;
    let Some(ToClient::AuthChallenge(challenge)) = ToClient::parse(&text)? else { anyhow::bail!("{text}") };
    let jwt = sign(challenge.challenge, &challenge.server_address.to_string()).await?;
    let (ins, session) = (InstanceId([1; 16]), SessionId([2; 16]));
    let response = AuthResponse { jwt: jwt.clone(), ins, session, presence: None };
    socket.send(ToRelay::AuthResponse(response).to_text().into()).await?;
    loop {
        let message = socket.next().await.context("closed before the verdict")??;
        if message.is_text() {
            return Ok((jwt, ToClient::parse(&message.into_text()?)?.context("an unknown message")?));
        }
    }
}
