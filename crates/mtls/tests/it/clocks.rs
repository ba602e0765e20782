//! A machine that does not know the time still connects (DESIGN section 4, "Time").

use certs::flawed;
use mtls::{ClientAuth, HTTP_1_1, Refusal};
use protocol::Role;
use tuf::UnixTime;

use crate::site::{NOW, Site, at, credentials, name, start, unknown, who};

const IN_1970: UnixTime = UnixTime(60);
const IN_2099: UnixTime = UnixTime(4_080_000_000);

#[tokio::test]
async fn a_device_at_1970_that_knows_it_is_lost_connects() {
    let site = Site::new();
    let server = start(site.server(Role::Manager, ClientAuth::Required, &[Role::Device])).await;
    let own = site.credentials(Role::Device);
    let lost = site.client_at(Some(&own), Role::Manager, HTTP_1_1, unknown(IN_1970));
    who(server.addr, lost).await.unwrap();
    let sure = site.client_at(Some(&own), Role::Manager, HTTP_1_1, at(IN_1970));
    assert_eq!(who(server.addr, sure).await.unwrap_err(), Refusal::NotYetValid);
}

#[tokio::test]
async fn a_gateway_at_1970_that_knows_it_is_lost_lets_devices_in() {
    let site = Site::new();
    let own = site.credentials(Role::Manager);
    let server = start(site.server_with(&own, ClientAuth::Required, &[Role::Device], unknown(IN_1970))).await;
    let device = site.credentials(Role::Device);
    who(server.addr, site.client(Some(&device), Role::Manager))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_certificate_that_begins_later_is_let_in_while_the_time_is_unknown() {
    let site = Site::new();
    let own = site.credentials(Role::Manager);
    let server = start(site.server_with(&own, ClientAuth::Required, &[Role::Device], unknown(NOW))).await;
    let early = credentials(&flawed::not_yet_valid_device(&site.devices, &name("pump-7"), NOW).unwrap());
    who(server.addr, site.client(Some(&early), Role::Manager))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_expired_certificate_stays_expired_while_the_time_is_unknown() {
    let site = Site::new();
    let own = site.credentials(Role::Manager);
    let server = start(site.server_with(&own, ClientAuth::Required, &[Role::Device], unknown(NOW))).await;
    let late = credentials(&flawed::expired_device(&site.devices, &name("pump-7"), NOW).unwrap());
    who(server.addr, site.client(Some(&late), Role::Manager))
        .await
        .unwrap_err();
    assert_eq!(server.refusal().await, Refusal::Expired);
}

#[tokio::test]
async fn a_wall_clock_at_2099_is_not_believed_above_a_floor() {
    // What `tuf::clock::believe` makes of 2099 above a floor of today: the floor, unknown.
    let believed = tuf::clock::believe(IN_2099, std::time::Duration::from_secs(5), Some(NOW));
    assert!(!believed.known);
    let site = Site::new();
    let server = start(site.server(Role::Manager, ClientAuth::Required, &[Role::Device])).await;
    let own = site.credentials(Role::Device);
    let lost = site.client_at(
        Some(&own),
        Role::Manager,
        HTTP_1_1,
        std::sync::Arc::new(crate::site::At(believed)),
    );
    who(server.addr, lost).await.unwrap();
    let sure = site.client_at(Some(&own), Role::Manager, HTTP_1_1, at(IN_2099));
    assert_eq!(who(server.addr, sure).await.unwrap_err(), Refusal::Expired);
}
