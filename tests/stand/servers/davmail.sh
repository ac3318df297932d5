# DavMail: a client of EWS at $EWS that mail programs use by IMAP and POP3. Its service is not installed, so Java is
# called by its path.
java=$(ls -d /usr/lib/jvm/java-*/bin | head -1)
"$java/keytool" -importcert -noprompt -alias stand -file "$CERTIFICATES/ca.pem" \
  -keystore /etc/davmail/trusted.p12 -storepass changeit >/dev/null 2>&1
cat >/etc/davmail/davmail.properties <<END
davmail.server=true
davmail.mode=EWS
davmail.url=$EWS
davmail.bindAddress=127.0.0.1
davmail.imapPort=$IMAP
davmail.popPort=$POP3
davmail.smtpPort=
davmail.caldavPort=
davmail.ldapPort=
davmail.disableUpdateCheck=true
davmail.imapAutoExpunge=true
davmail.logFilePath=$DIR/davmail.log
log4j.rootLogger=WARN
END
exec "$java/java" -Xmx128m -Djavax.net.ssl.trustStore=/etc/davmail/trusted.p12 -Djavax.net.ssl.trustStorePassword=changeit \
  -jar /usr/share/davmail/davmail.jar -server /etc/davmail/davmail.properties
