// Raises an alert for mails such as "DISK srv-01 full"; leaves every other mail to the next rule.
#include <stdlib.h>
#include <string.h>

#include "postroom/postroom.h"

// Joins two texts. Nothing is freed, because the instance ends with its mail.
static postroom_string_t joined(const char *first, postroom_string_t second) {
  size_t length = strlen(first);
  postroom_string_t whole = {.len = length + second.len};
  whole.ptr = malloc(whole.len);
  memcpy(whole.ptr, first, length);
  memcpy(whole.ptr + length, second.ptr, second.len);
  return whole;
}

// Returns true with the result in `decision`, or false with the error in `failure`.
bool exports_postroom_decide(postroom_borrow_message_t message, postroom_context_t *context,
                             postroom_decision_t *decision, postroom_failure_t *failure) {
  (void)context;
  postroom_plugin_types_field_t field = {.tag = POSTROOM_PLUGIN_TYPES_FIELD_SUBJECT};
  postroom_string_t pattern;
  postroom_string_set(&pattern, "^DISK (\\S+) full");
  postroom_plugin_types_option_captures_t found;
  postroom_plugin_types_pattern_error_t wrong;
  if (!postroom_plugin_types_method_message_match(message, &field, &pattern, &found, &wrong)) {
    failure->message = wrong.val.syntax;
    failure->location.is_some = false;
    return false;
  }
  if (!found.is_some) {
    decision->tag = POSTROOM_PLUGIN_TYPES_DECISION_PASS;
    return true;
  }
  postroom_string_t host = found.val.groups.ptr[1].val;

  static postroom_plugin_types_action_t action = {.tag = POSTROOM_PLUGIN_TYPES_ACTION_ALERT};
  postroom_plugin_types_alert_t *alert = &action.val.alert;
  alert->key = joined("disk/", host);
  alert->state = POSTROOM_PLUGIN_TYPES_ALERT_STATE_FIRING;
  alert->severity.is_some = true;
  postroom_string_set(&alert->severity.val, "critical");
  alert->host.is_some = true;
  alert->host.val = host;

  decision->tag = POSTROOM_PLUGIN_TYPES_DECISION_ACTIONS;
  decision->val.actions.ptr = &action;
  decision->val.actions.len = 1;
  return true;
}
