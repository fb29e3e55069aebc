package ai.edgekit.demo

import ai.edgekit.core.Consent
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.rememberScrollState
import androidx.compose.foundation.verticalScroll
import androidx.compose.material3.FilterChip
import androidx.compose.material3.OutlinedTextField
import androidx.compose.material3.Slider
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.remember
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.res.stringResource
import androidx.compose.ui.text.input.PasswordVisualTransformation
import androidx.compose.ui.unit.dp
import kotlin.math.roundToInt

/** Who answers hand-offs, whether it may be asked, and how often. */
@Composable
fun CloudPage(model: DemoModel) {
    var share by remember { mutableStateOf(model.share.toFloat()) }
    val settings = model.settings
    Column(Modifier.verticalScroll(rememberScrollState()), verticalArrangement = Arrangement.spacedBy(8.dp)) {
        OutlinedTextField(
            settings.server, settings::changeServer, Modifier.fillMaxWidth(),
            label = { Text(stringResource(R.string.server)) }, singleLine = true,
        )
        OutlinedTextField(
            settings.model, settings::changeModel, Modifier.fillMaxWidth(),
            label = { Text(stringResource(R.string.model)) }, singleLine = true,
        )
        OutlinedTextField(
            settings.key, settings::changeKey, Modifier.fillMaxWidth(),
            label = { Text(stringResource(R.string.key)) }, singleLine = true,
            visualTransformation = PasswordVisualTransformation(),
        )
        Text(stringResource(R.string.consent_for_server))
        Row(horizontalArrangement = Arrangement.spacedBy(8.dp)) {
            for (consent in Consent.entries) {
                FilterChip(
                    selected = settings.consent == consent, onClick = { settings.changeConsent(consent) },
                    label = { Text(stringResource(NAMES.getValue(consent))) },
                )
            }
        }
        Text(stringResource(R.string.budget, (share * 100).roundToInt(), model.window))
        Slider(share, { share = it }, onValueChangeFinished = { model.changeShare(share.toDouble()) })
    }
}

private val NAMES = mapOf(
    Consent.ASK to R.string.consent_ask, Consent.ALWAYS to R.string.consent_always,
    Consent.NEVER to R.string.consent_never,
)
