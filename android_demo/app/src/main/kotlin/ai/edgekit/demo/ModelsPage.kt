package ai.edgekit.demo

import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.rememberScrollState
import androidx.compose.foundation.verticalScroll
import androidx.compose.material3.Button
import androidx.compose.material3.OutlinedTextField
import androidx.compose.material3.Text
import androidx.compose.material3.TextButton
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.saveable.rememberSaveable
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.res.stringResource
import androidx.compose.ui.unit.dp
import kotlin.math.roundToInt

/** The bundles that are here, and how another one comes: from an address, going on where it stopped. */
@Composable
fun ModelsPage(model: DemoModel) {
    var address by rememberSaveable { mutableStateOf("") }
    Column(Modifier.verticalScroll(rememberScrollState()), verticalArrangement = Arrangement.spacedBy(8.dp)) {
        for (folder in model.bundles) {
            Button(onClick = { model.choose(folder) }, enabled = !model.isBusy) { Text(folder.name) }
        }
        OutlinedTextField(
            address, { address = it }, Modifier.fillMaxWidth(),
            label = { Text(stringResource(R.string.bundle_address)) }, singleLine = true,
        )
        Button(onClick = { model.download(address) }, enabled = !model.isBusy && address.isNotBlank()) {
            Text(stringResource(R.string.download))
        }
        model.progress?.let {
            Text(stringResource(R.string.downloading, (it * 100).roundToInt()))
            TextButton(onClick = model::stop) { Text(stringResource(R.string.stop)) }
        }
    }
}
